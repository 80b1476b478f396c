"""`lab images` end to end on the digits: every table says the same, a killed run ends with the same bytes, networks and augmentation are what they are called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_archives import as_archive, ten_files
from typer.testing import CliRunner

from elr_mri.cli import app
from elr_mri.config import METHODS, Elr, Fit, ImageNoise, Images, Lab, Loss
from elr_mri.errors import BadInput
from elr_mri.findings import elsewhere
from elr_mri.lab.audit import found
from elr_mri.lab.image_networks import PADDING, augmentation, build, crop_flip, moments, scaler
from elr_mri.lab.image_recipes import RECIPES, loss_of, recipe_of
from elr_mri.lab.image_sets import read_images
from elr_mri.lab.images import images
from elr_mri.provenance import read_json

FEW = Fit(epochs=3)
SHORT = Lab(images=Images(fit=FEW))


def table(folder: Path, name: str) -> pd.DataFrame:
    words = ("image", "true", "given", "suggested") if name in ("audit", "wrong_labels") else ()
    return pd.read_csv(folder / f"{name}.tsv", sep="\t", dtype=dict.fromkeys(words, str))


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    done = CliRunner().invoke(
        app, ["lab", "images", "--output", str(folder), "--config", '{"images": {"fit": {"epochs": 3}}}']
    )
    assert done.exit_code == 0, done.output
    assert "ELR+" in done.output and "drawn anew" in done.output
    return folder


def test_the_report_tells_what_the_findings_say(out: Path, tmp_path: Path) -> None:
    found = read_json(out / "findings.json")["methods"]["elr"]
    (tmp_path / "images").symlink_to(out)
    (told,) = elsewhere.read([tmp_path / "images"], tmp_path)
    assert (
        told["lines"][0].startswith("digits: 1,212 training images")
        and "3 epochs, 1 training of each" in told["lines"][0]
    )
    assert told["lines"][2] == (
        f"ELR: {100 * found['test_accuracy']:.1f} % of the test images are right (last epoch); "
        f"{100 * found['wrong_memorized_end']:.1f} % of the wrong labels are given back."
    )
    assert told["stem"] == tmp_path / "images" / "memorization"


def test_the_tables_agree_with_each_other(out: Path) -> None:
    facts, results, curves = read_json(out / "findings.json"), table(out, "results"), table(out, "curves")
    history, audit, wrong = table(out, "history"), table(out, "audit"), table(out, "wrong_labels")
    assert facts["dataset"] == "digits" and facts["n"] == {"test": 450, "train": 1212, "val": 135}
    assert results["method"].tolist() == ["ce", "elr", "elr-plus"] == list(facts["methods"])
    n_wrong = (wrong["split"] == "train").sum()
    assert facts["wrong_share"]["train"] == pytest.approx(n_wrong / 1212, abs=1e-6)
    assert facts["drawn_share"]["train"] == pytest.approx(0.4, abs=0.005) and 0.33 < n_wrong / 1212 < 0.39
    assert (curves.query("group == 'wrong'")["n"] == n_wrong).all()
    np.testing.assert_allclose(curves[["true", "given", "other"]].sum(axis=1), 1, atol=1e-5)
    for line in results.itertuples():
        own = history[history["method"] == line.method]
        assert (
            line.test_accuracy == own["test_accuracy"].iloc[-1] and line.highest_accuracy == own["test_accuracy"].max()
        )
        assert line.selected_epoch == own["val_ce"].to_numpy().argmin() + 1
        assert line.wrong_memorized_end == curves.query("method == @line.method and group == 'wrong'")["given"].iloc[-1]
    assert set(audit["image"]) >= set(wrong.loc[wrong["split"] == "train", "image"]) and len(audit) == 1212
    mistaken = (audit["given"] != audit["true"]).to_numpy()
    assert facts["audit"]["method"] == "elr" and facts["audit"]["average_precision"] == pytest.approx(
        found(mistaken, audit["disagreement"].to_numpy())["average_precision"], abs=1e-3
    )
    told = set(zip(wrong["image"], wrong["true"], wrong["given"], wrong["split"]))
    assert {(r.image, r.true, r.given, "train") for r in audit[mistaken].itertuples()} <= told
    for stem in ("memorization", "gradients", "accuracy"):
        assert (out / f"{stem}.png").stat().st_size > 5000 and (out / f"{stem}.svg").exists()


def test_the_test_images_keep_their_labels_and_are_never_trained_on(out: Path) -> None:
    data, wrong = read_images(Images(), out / "packed"), table(out, "wrong_labels")
    assert set(wrong["split"]) == {"train", "val"}
    assert not set(data.names["test"]) & set(table(out, "audit")["image"])
    assert sorted(int(n) for names in data.names.values() for n in names) == list(range(1797))


def test_a_killed_run_ends_with_the_same_bytes(out: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("images: elr-plus") and "epoch 2" in line:
            raise Killed

    with pytest.raises(Killed):
        images(SHORT, tmp_path, tell=kill)
    assert not (tmp_path / "results.tsv").exists()
    lines: list[str] = []
    images(SHORT, tmp_path, tell=lines.append)
    trained = [line.split("learning_rate")[0].strip() for line in lines if "learning_rate" in line]
    assert trained == ["images: elr-plus, seed 0: epoch 3"]
    names = [p.name for p in out.iterdir() if p.is_file() and p.name != "findings.json.json"]
    assert len(names) == 13
    for name in names:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


def test_labels_as_they_come_have_nothing_to_memorize(tmp_path: Path) -> None:
    """Web-labelled sets: class folders, whose labels are the only ones."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("val", 4)):
        for place in range(2 * n):
            path = tmp_path / "web" / split / ("dark", "light")[place % 2] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            low = 150 * (place % 2)
            Image.fromarray(rng.integers(low, low + 100, (20, 30, 3), dtype=np.uint8)).save(path)
    own = Images(
        path=str(tmp_path / "web"), size=16, network="small", augment="crop", noise=ImageNoise(share=0), seeds=(0, 1),
        methods=("ce", "elr"), fit=Fit(epochs=4, batch_size=8, device="cpu"),
    )  # fmt: skip
    said: list[str] = []
    images(Lab(images=own), tmp_path / "out", tell=said.append)
    facts = read_json(tmp_path / "out" / "findings.json")
    assert any("as they came, of which nobody knows how many are wrong" in line for line in said)
    (told,) = elsewhere.read([shutil.copytree(tmp_path / "out", tmp_path / "images")], tmp_path)
    assert "22 training images, their labels as they came, of which nobody knows how many are wrong" in told["lines"][0]
    assert "given back" not in " ".join(told["lines"]) and "None" not in " ".join(told["lines"])
    assert facts["dataset"] == "web" and facts["wrong_share"]["train"] == 0 and facts["seeds"] == [0, 1]
    assert facts["methods"]["ce"]["wrong_memorized_end"] is None and facts["audit"]["average_precision"] is None
    assert facts["methods"]["elr"]["test_accuracy"] > 0.7
    audit = table(tmp_path / "out", "audit")
    assert "true" not in audit and audit["image"].str.startswith("train/").all()
    assert table(tmp_path / "out", "wrong_labels").empty


def test_an_archive_is_trained_on_by_its_recipe(tmp_path: Path) -> None:
    path = as_archive(ten_files("python2"), tmp_path, "cifar-10-batches-py")
    config = f'{{"images": {{"path": "{path}", "network": "small", "fit": {{"epochs": 2, "device": "cpu"}}}}}}'
    done = CliRunner().invoke(app, ["lab", "images", "--output", str(tmp_path / "out"), "--config", config])
    assert done.exit_code == 0, done.output
    facts, told = (read_json(tmp_path / "out" / f"findings.json{end}") for end in ("", ".json"))
    assert facts["dataset"] == "cifar10" and facts["image_shape"] == [3, 32, 32]
    assert told["training"]["batch_size"] == 128 and told["losses"]["elr-plus"]["elr"]["ema_ramp_steps"] == 40_000
    audit = table(tmp_path / "out", "audit")
    assert {"automobile", "frog"} <= set(audit["true"]) and len(audit) == 90
    absent = config.replace(".tar.gz", "")
    done = subprocess.run(
        [sys.executable, "-m", "elr_mri", "lab", "images", "--output", str(tmp_path), "--config", absent],
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "lab.images.path: " in line and line.endswith("digits are used.")


@pytest.mark.slow
def test_on_the_digits_cross_entropy_memorizes_and_elr_does_not(tmp_path: Path) -> None:
    """The default run with other wrong labels, weights and divisions than the default's."""
    images(Lab(images=Images(seeds=(11,), split_seed=5)), tmp_path, tell=lambda line: None)
    told = read_json(tmp_path / "findings.json")["methods"]
    plain = told.pop("ce")
    assert plain["wrong_true_peak"] > 0.85 and plain["wrong_true_peak_epoch"] < 20  # early learning
    assert plain["wrong_memorized_end"] > 0.9 and plain["wrong_true_end"] < 0.1  # memorization
    for held in told.values():
        assert held["wrong_true_end"] > 0.85 and held["wrong_memorized_end"] < 0.1
        assert held["test_accuracy"] > plain["test_accuracy"] + 0.1
        assert held["audit_average_precision"] > 0.9


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "small"])
def test_networks(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, 3, 7, 32).eval()
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    n = sum(p.numel() for p in net.parameters())
    #: He et al. with a 3×3 stem, and 7 classes: as kuangliu's counts 11,173,962 and 21,282,122 of 10 classes, less 3 · 513.
    assert {"resnet18": 11_172_423, "resnet34": 21_280_583}.get(name, n) == n
    if name != "small":
        stages = []
        net.layer1.register_forward_hook(lambda m, i, o: stages.append(o.shape))
        net(torch.zeros(1, 3, 32, 32))
        assert stages == [(1, 64, 32, 32)]  # nothing is lost before the first stage
        assert build(name, 3, 7, 128)(torch.zeros(2, 3, 128, 128)).shape == (2, 7)


def test_bytes_become_standard_numbers() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5000, 2, 4, 4), dtype=np.uint8)
    mean, spread = moments(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(spread, (pixels / 255).std(axis=(0, 2, 3)))
    found = scaler(pixels, standardise=True)(torch.from_numpy(pixels))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(dim=(0, 2, 3)), 1, atol=1e-4)
    plain = scaler(pixels, standardise=False)(torch.from_numpy(pixels))
    np.testing.assert_allclose(plain, pixels / 255, atol=1e-6)
    assert scaler(np.zeros((3, 1, 4, 4), np.uint8), standardise=True)(torch.zeros(1, 1, 4, 4)).isfinite().all()


def test_crops_and_mirrors() -> None:
    batch = torch.arange(2 * 3 * 6 * 6, dtype=torch.uint8).reshape(2, 3, 6, 6)
    middle, none = torch.tensor([PADDING, PADDING]), torch.tensor([False, False])
    assert torch.equal(crop_flip(batch, middle, middle, none), batch)
    assert torch.equal(crop_flip(batch, middle, middle, ~none), batch.flip(3))
    moved = crop_flip(batch, middle + 2, middle - 1, none)
    assert torch.equal(moved[:, :, :4, 1:], batch[:, :, 2:, :5])
    assert not moved[:, :, 4:].any() and not moved[..., 0].any()
    mirrored = crop_flip(batch, middle, middle - 1, torch.tensor([False, True]))
    assert torch.equal(mirrored[1], moved_right(batch[1]).flip(2))
    change = augmentation("crop-flip")
    one, again, other = (change(batch, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other) and one.dtype == torch.uint8
    assert augmentation("none") is None


def moved_right(image: torch.Tensor) -> torch.Tensor:
    """One pixel to the right, zeros at the left."""
    return torch.nn.functional.pad(image, (1, 0))[..., :-1]


def test_recipes_are_the_published_ones_and_the_config_goes_before_them() -> None:
    ten, hundred = RECIPES["cifar10"], RECIPES["cifar100"]
    for recipe, epochs, milestones in ((ten, 120, (40, 80)), (hundred, 150, (80, 120))):
        assert recipe.network == "resnet34" and (recipe.fit.epochs, recipe.fit.milestones) == (epochs, milestones)
        assert (recipe.fit.learning_rate, recipe.fit.weight_decay, recipe.fit.momentum) == (0.02, 1e-3, 0.9)
        assert (recipe.fit.batch_size, recipe.fit.schedule, recipe.fit.gamma) == (128, "steps", 0.1)
    data = read_images(Images(), Path())
    found = recipe_of(data, Images(recipe="cifar10", network="resnet18", fit=Fit(epochs=7)))
    assert found.network == "resnet18"
    assert found.fit == ten.fit.model_copy(update={"epochs": 7, "milestones": (2, 5)})
    assert loss_of("elr", Lab(), hundred).elr == Elr(weight=7.0, beta=0.9)
    plus = loss_of("elr-plus", Lab(), hundred).elr
    assert plus.targets == "both" and plus.mixup == 1 and plus.ema_ramp_steps == plus.ramp_steps == 40_000
    own = Loss(elr=Elr(weight=5.0))
    assert loss_of("elr", Lab(methods={"elr": own}), hundred) == own
    assert loss_of("sop", Lab(), ten) == METHODS["sop"]


@pytest.mark.parametrize(("epochs", "milestones"), [(30, (10, 20)), (240, (80, 160)), (1, (1, 1))])
def test_a_shorter_training_s_step_size_falls_too(epochs: int, milestones: tuple[int, ...]) -> None:
    data = read_images(Images(), Path())
    found = recipe_of(data, Images(recipe="cifar10", fit=Fit(epochs=epochs))).fit
    assert (found.epochs, found.milestones) == (epochs, milestones)
    own = Fit(epochs=epochs, milestones=(40, 80))
    assert recipe_of(data, Images(recipe="cifar10", fit=own)).fit.milestones == (40, 80)


def test_who_stops_early_is_judged_at_the_epoch_that_validation_chose(tmp_path: Path) -> None:
    """The wrong labels of half the images are learnt by heart soon, and validation tells it."""
    own = Images(noise=ImageNoise(share=0.6), methods=("early-stopping", "ce"), fit=Fit(epochs=12, learning_rate=0.01))
    images(Lab(images=own, methods={"early-stopping": Loss(patience=2)}), tmp_path, tell=lambda line: None)
    results, history = table(tmp_path, "results").set_index("method"), table(tmp_path, "history")
    stopped, whole = (results.loc[name] for name in own.methods)
    accuracy = {name: rows["test_accuracy"].to_numpy() for name, rows in history.groupby("method")}
    assert stopped.epochs == stopped.counted_epoch + 2 < 12 and stopped.counted_epoch == stopped.selected_epoch
    assert (
        stopped.test_accuracy
        == stopped.selected_accuracy
        == accuracy["early-stopping"][int(stopped.selected_epoch) - 1]
    )
    assert stopped.test_accuracy != accuracy["early-stopping"][-1]
    curves = table(tmp_path, "curves").query("method == 'early-stopping' and group == 'wrong'").set_index("epoch")
    assert stopped.wrong_memorized_end == curves.loc[stopped.selected_epoch, "given"]
    assert whole.counted_epoch == 12 and whole.test_accuracy == accuracy["ce"][-1]
    facts = read_json(tmp_path / "findings.json")["methods"]
    assert [facts[name]["counted"] for name in own.methods] == ["selected epoch", "last epoch"]


def test_nothing_stops_early_without_validation_images(tmp_path: Path) -> None:
    own = Lab(images=Images(validation=0, methods=("own",)), methods={"own": Loss(patience=2)})
    with pytest.raises(BadInput, match=r"lab.images.validation: expected validation images .* none for own"):
        images(own, tmp_path, tell=lambda line: None)
    assert not (tmp_path / "runs").exists()
