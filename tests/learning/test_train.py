import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_study import Study, write_study

from elr_mri.config import Explain, Model, Predict, Train
from elr_mri.errors import BadInput
from elr_mri.learning import recipe
from elr_mri.learning import train as train_module
from elr_mri.learning.checkpoint import load_model, read_facts
from elr_mri.learning.explain import explain
from elr_mri.learning.networks import build
from elr_mri.learning.predict import predict, predict_volume
from elr_mri.learning.resume import Begun, load_state, save_state
from elr_mri.learning.run import Run
from elr_mri.learning.train import chosen, train
from elr_mri.provenance import versions
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS

QUIET = {"progress": lambda line: None}


def fit(study: Study, settings: Train, out: Path, slug: str = "wide-age-elr", **options: object) -> Path:
    train(*study.paths, settings, slug=slug, seed=0, out_dir=out, **(QUIET | options))
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def kill_after(n_epochs: int):
    def progress(line: str) -> None:
        if f"epoch {n_epochs}/" in line:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def trained(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uninterrupted run of four epochs."""
    models = {
        "wide-age-elr": Model(
            network="wide", width=1, age="sinusoid", first_pool=False, elr={"weight": 3.0, "beta": 0.7}
        )
    }
    settings = Train(models=models, epochs=4, batch_size=4, crop=35, shift_max=1, precision="float32", device="cpu")
    return fit(study, settings, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_run_ends_with_the_same_bits(
    study: Study, settings: Train, trained: Path, tmp_path: Path, killed: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(study, settings, tmp_path, progress=kill_after(killed))
    lines: list[str] = []
    fit(study, settings, tmp_path, progress=lines.append)
    assert sum("epoch" in line for line in lines) == 4 - killed
    assert_same_run(trained, tmp_path)


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bits(
    study: Study, settings: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Three steps an epoch, saved after each; with everything on that a step can change."""
    full = settings.model_copy(
        update={"epochs": 2, "save_minutes": 0.0, "ema": 0.9, "clip_norm": 1.0, "class_weights": "balanced"}
    )
    once = fit(study, full, tmp_path / "once")
    step, done = Run.step, []

    def dies(run: Run, rate: float) -> None:
        done.append(rate)
        if len(done) > steps:
            raise KeyboardInterrupt
        step(run, rate)

    monkeypatch.setattr(Run, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(study, full, tmp_path / "twice")
    done.clear()
    monkeypatch.setattr(Run, "step", lambda run, rate: (done.append(rate), step(run, rate)))
    twice = fit(study, full, tmp_path / "twice")
    assert len(done) == 6 - steps
    assert_same_run(once, twice)


def test_killed_between_weights_and_state_the_chosen_epoch_s_weights_are_kept(
    study: Study, settings: Train, tmp_path: Path, monkeypatch
) -> None:
    """On a GPU the epoch that is trained again has other bits: here it comes out worse than the one before, and is not chosen."""
    two = settings.model_copy(update={"epochs": 2, "select": "best"})
    told, save = iter((1.0, 0.5)), train_module.save_state
    validate = train_module._validate
    monkeypatch.setattr(train_module, "_validate", lambda run: validate(run) | {"val_ce": next(told)})

    def dies(path, *, history, **parts) -> None:
        if len(history) == 2:
            raise KeyboardInterrupt
        save(path, history=history, **parts)

    monkeypatch.setattr(train_module, "save_state", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(study, two, tmp_path)
    first = load_file(train_module.best(tmp_path, 0))
    monkeypatch.setattr(train_module, "save_state", save)
    monkeypatch.setattr(train_module, "_validate", lambda run: validate(run) | {"val_ce": 2.0})
    fit(study, two, tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in first.items())
    assert [path.name for path in (tmp_path / "state").glob("best-*")] == ["best-1.safetensors"]


def assert_same_run(once: Path, twice: Path) -> None:
    """Weights, training state and history of two runs are the same to the bit."""
    (best,) = (path.name for path in (once / "state").glob("best-*.safetensors"))
    for name in ("model.safetensors", "state/resume.safetensors", f"state/{best}"):
        first, second = load_file(once / name), load_file(twice / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    first, second = (pd.read_csv(f / "history.tsv", sep="\t").drop(columns="seconds") for f in (once, twice))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_what_a_finished_run_wrote_comes_back(study: Study, settings: Train, tmp_path: Path) -> None:
    """Snakemake deletes a rule's outputs before it runs again; the training state is none of them."""
    one, names = (
        settings.model_copy(update={"epochs": 1}),
        ("model.safetensors", "model.json", "model.md", "history.tsv", "targets.tsv", "trajectory.npy"),
    )
    fit(study, one, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    for name in names:
        (tmp_path / name).unlink()
    fit(study, one, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_an_optimizer_s_memory_lies_as_its_weights_do(tmp_path: Path) -> None:
    """As on a GPU, where weights of convolutions lie channels last: the fused step pairs values by their place in memory."""

    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Conv3d(3, 4, 3).to(memory_format=torch.channels_last_3d)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.01, fused=True)

    def step(layer: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.linspace(-1, 1, 648).view(1, 3, 6, 6, 6)).square().sum().backward()
        optimizer.step()

    once, twice = make(), make()
    for pair in (once, twice):
        step(*pair)
    state = tmp_path / "state.safetensors"
    save_state(state, fingerprint={}, history=[], begun=Begun(), optimizer=twice[1], layer=twice[0])
    resumed = make()
    options = {"fingerprint": {}, "restart_if_changed": False, "tell": print}
    load_state(state, **options, optimizer=resumed[1], layer=resumed[0])
    for pair in (once, resumed):
        step(*pair)
    assert torch.equal(once[0].weight, resumed[0].weight)


def test_history_has_the_contract_columns_and_elr_targets_are_saved(trained: Path) -> None:
    history = pd.read_csv(trained / "history.tsv", sep="\t")
    assert history.columns.tolist() == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_ce",
        "train_accuracy",
        "val_ce",
        "val_accuracy",
        "val_balanced_accuracy",
        "seconds",
    ]
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    targets = load_file(trained / "state" / "resume.safetensors")["objective.targets.0.targets"]
    torch.testing.assert_close(targets.sum(dim=1), torch.full((9,), 1 - 0.7**4))


def test_another_seed_is_another_model(study: Study, settings: Train, trained: Path, tmp_path: Path) -> None:
    short = settings.model_copy(update={"epochs": 1})
    train(*study.paths, short, slug="wide-age-elr", seed=1, out_dir=tmp_path, **QUIET)
    key = "network.classifier.1.weight"
    assert not torch.equal(weights(tmp_path)[key], weights(trained)[key])


def test_state_of_other_settings_is_refused_by_name_or_overwritten(
    study: Study, settings: Train, tmp_path: Path
) -> None:
    one = settings.model_copy(update={"epochs": 1})
    fit(study, one, tmp_path)
    changed = one.model_copy(update={"learning_rate": 0.002})
    with pytest.raises(
        BadInput,
        match=r"settings\.learning_rate 0\.002.*got one with settings\.learning_rate 0\.001.*--restart",
    ):
        fit(study, changed, tmp_path)
    fit(study, changed, tmp_path, restart_if_changed=True)
    assert read_facts(tmp_path)["settings"]["learning_rate"] == 0.002


def test_state_of_another_torch_is_refused_by_name(
    study: Study, settings: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = settings.model_copy(update={"epochs": 1})
    fit(study, one, tmp_path)
    monkeypatch.setattr("elr_mri.learning.run.versions", lambda: versions() | {"torch": "9.0"})
    with pytest.raises(BadInput, match=r"versions\.torch 9\.0"):
        fit(study, one, tmp_path)
    lines: list[str] = []
    fit(study, one, tmp_path, restart_if_changed=True, progress=lines.append)
    assert any("training anew: the state found has versions." in line for line in lines)


@pytest.mark.parametrize("damage", ["cut", "junk", "foreign"])
def test_a_damaged_state_is_refused_in_one_line(study: Study, settings: Train, tmp_path: Path, damage: str) -> None:
    one = settings.model_copy(update={"epochs": 1})
    fit(study, one, tmp_path)
    state = tmp_path / "state" / "resume.safetensors"
    content = state.read_bytes()
    if damage == "foreign":
        save_file({"weights": torch.zeros(3)}, state)
    else:
        state.write_bytes(content[: len(content) // 2] if damage == "cut" else b"junk")
    with pytest.raises(BadInput, match="expected a training state, got .*Delete it to train anew") as told:
        fit(study, one, tmp_path)
    assert "\n" not in str(told.value)


def test_state_of_other_scans_is_refused(study: Study, settings: Train, tmp_path: Path) -> None:
    one = settings.model_copy(update={"epochs": 1})
    fit(study, one, tmp_path / "out")
    (tmp_path / "other").mkdir()
    with pytest.raises(BadInput, match=r"data\.train_scans"):
        fit(write_study(tmp_path / "other", n_subjects=21), one, tmp_path / "out")


@pytest.mark.parametrize("select, expected", [("best", 1), ("last", 3)])
def test_selection_is_by_validation_cross_entropy(select: str, expected: int) -> None:
    history = [{"val_ce": v, "train_loss": t} for v, t in ((1.1, 1.0), (0.9, 0.5), (0.9, -1.0), (1.4, -3.0))]
    assert chosen(history, select) == expected


def test_the_model_folder_says_what_it_was_trained_on(trained: Path) -> None:
    facts = read_facts(trained)
    assert facts["trained_on"]["cohorts"] == ["TOY"] and facts["trained_on"]["n_scans"] == 9
    assert facts["preprocessing"]["template"] == "toy" and facts["preprocessing"]["spacing_mm"] == 3.0
    assert facts["classes"] == ["CN", "MCI", "AD"] and "MIT" in facts["licence"]


def test_predictions_cover_every_packed_scan_and_equal_one_scan_at_a_time(
    study: Study, trained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "predictions.tsv"
    predict([trained], *study.paths, Predict(batch_size=5), output=output)
    table = PREDICTIONS.read(output)
    assert len(table) == 18 and set(table["split"]) == {"train", "val", "test", "external"}
    assert (tmp_path / "predictions.tsv.json").exists()
    volume = np.load(study.cache / "volumes.npy")[7]
    np.testing.assert_allclose(
        predict_volume(trained, volume, 67.0), table.loc[7, list(P_COLUMNS)].astype(float), atol=1e-5
    )


def test_the_order_of_the_packed_rows_changes_nothing(
    study: Study, settings: Train, trained: Path, tmp_path: Path
) -> None:
    """Scans that were added stand behind the others in the cache; a model and its predictions do not depend on it."""
    grown = write_study(tmp_path, packed_order=np.random.default_rng(1).permutation(18))
    fit(grown, settings, tmp_path / "model")
    once, twice = weights(trained), weights(tmp_path / "model")
    assert all(torch.equal(once[k], twice[k]) for k in once)
    texts = [(folder / "model.json").read_text() for folder in (trained, tmp_path / "model")]
    assert texts[0] == texts[1]
    for name, packed in (("one", study), ("two", grown)):
        predict([trained], *packed.paths, Predict(), output=tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    lines: list[str] = []
    fit(grown, settings, trained, progress=lines.append)
    assert len(lines) == 1, "the state that was trained on the fresh cache was not taken up"


def test_two_channels_are_trained_on_predicted_and_explained(settings: Train, tmp_path: Path) -> None:
    packed = write_study(tmp_path, channels=2)
    model = fit(packed, settings.model_copy(update={"epochs": 1}), tmp_path / "model", slug="wide")
    drawn = build("wide", width=1, crop=35, first_pool=False, age="none", channels=2)
    assert weights(model)["network.blocks.0.weight"].shape == drawn.blocks[0].weight.shape == (4, 2, 1, 1, 1)
    predict([model], *packed.paths, Predict(), output=tmp_path / "predictions.tsv")
    table = PREDICTIONS.read(tmp_path / "predictions.tsv")
    volume = np.load(packed.cache / "volumes.npy")[7]
    np.testing.assert_allclose(
        predict_volume(model, volume, 67.0), table.loc[7, list(P_COLUMNS)].astype(float), atol=1e-5
    )
    explain(model, *packed.paths, Explain(split="test"), output_dir=tmp_path / "maps")
    assert nib.load(tmp_path / "maps" / "aggregate.nii.gz").shape == volume.shape[1:]
    (tmp_path / "one").mkdir()
    with pytest.raises(BadInput, match="channels"):
        predict([model], *write_study(tmp_path / "one").paths, Predict(), output=tmp_path / "p.tsv")


def test_the_first_block_is_frozen_for_one_channel_only() -> None:
    for channels in (1, 2):
        net = build("wide", width=1, crop=35, first_pool=False, channels=channels)
        recipe.optimizer(net, Train(), Model(network="wide"))
        assert net.blocks[0].weight.requires_grad == (channels == 2)


def test_a_cache_on_another_grid_is_refused(study: Study, trained: Path, tmp_path: Path) -> None:
    other = write_study(tmp_path)
    meta = other.cache / "meta.json"
    meta.write_text(meta.read_text().replace('"toy"', '"MNI"'))
    with pytest.raises(BadInput, match=r"template toy.*got MNI"):
        predict([trained], *other.paths, Predict(), output=tmp_path / "p.tsv")
    with pytest.raises(BadInput, match=re.escape("(38, 40, 37)")):
        predict_volume(trained, np.zeros((4, 4, 4)), 70)


def test_weights_of_another_network_are_refused(trained: Path, tmp_path: Path) -> None:
    text = (trained / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"width": 1', '"width": 2'))
    (tmp_path / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match=r"weights that model\.json describes"):
        load_model(tmp_path)


def test_an_unknown_model_and_too_large_a_crop_are_refused(study: Study, settings: Train, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a model among wide, wide-age-elr, got 'vgg'"):
        fit(study, settings, tmp_path, slug="vgg")
    with pytest.raises(BadInput, match="at least 48 voxels a side, got 38x40x37"):
        fit(study, settings.model_copy(update={"crop": 48}), tmp_path)


def test_one_cycle_rises_to_the_peak_and_falls_to_zero(settings: Train) -> None:
    rates = [recipe.learning_rate(i, 100, settings) for i in range(100)]
    assert max(rates) == pytest.approx(settings.learning_rate) and int(np.argmax(rates)) == 24
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.all(np.diff(rates[:25]) > 0) and np.all(np.diff(rates[24:]) < 0)


def test_the_frozen_first_block_could_change_nothing() -> None:
    """Why `recipe` freezes it: instance norm takes out the size of a 1³ convolution's weights, and its bias.

    Exact only where w² is far above the norm's epsilon, so the weights keep no more than their signs here.
    """
    torch.manual_seed(0)
    net = build("wide", width=1, crop=35, first_pool=False, age="none")
    volumes = torch.randn(2, 1, 35, 35, 35)
    with torch.inference_mode():
        net.blocks[0].weight.sign_()
        before = net(volumes)
        net.blocks[0].weight *= 3
        net.blocks[0].bias += 5
        torch.testing.assert_close(net(volumes), before, atol=1e-4, rtol=0)
        net.blocks[0].weight *= -1
        assert (net(volumes) - before).abs().max() > 1e-3
