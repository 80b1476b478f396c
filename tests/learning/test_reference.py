"""The released checkpoints: our network gives what the released code gave for the same weights and input.

`GOLDEN` was computed once with the released code (NYUMedML/CNN_design_for_AD; torch 2.13, CPU) from the weights and the
volume of `reference_files.py`, for the volume and its mirror image along the first axis.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_study
from reference_files import hollow, prefixed, released, volume
from torch import nn

from elr_mri.config import Explain, Predict
from elr_mri.errors import BadInput
from elr_mri.imaging.packed import MAX_INTENSITY, Cache, encode
from elr_mri.imaging.template import study_grid
from elr_mri.learning.checkpoint import load_model, load_reference_weights, read_facts
from elr_mri.learning.explain import explain
from elr_mri.learning.import_weights import import_weights
from elr_mri.learning.predict import predict, predict_volume
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS

#: Width → logits without age, and at positions 144 and 163 (72 and 81.5 years).
GOLDEN = {
    1: (
        [[0.213211, -0.589782, 1.561957], [0.347489, -1.096577, 1.458863]],
        [[0.478294, -0.714843, 0.737201], [-0.063982, -0.298211, 0.500864]],
    ),
    2: (
        [[-0.187662, -0.490509, 0.813594], [-0.217573, -0.219795, 0.946505]],
        [[0.077422, -0.615569, -0.011162], [-0.629043, 0.578571, -0.011493]],
    ),
    4: (
        [[1.071694, -0.373909, -0.654203], [0.135083, -1.253738, -0.318764]],
        [[1.336776, -0.498969, -1.478958], [-0.276387, -0.455372, -1.276761]],
    ),
    8: (
        [[0.983379, 1.486183, -0.337456], [1.172213, 1.245328, -0.37199]],
        [[1.248462, 1.361123, -1.162211], [0.760743, 2.043694, -1.329987]],
    ),
}
AGES = torch.tensor([72.2, 81.4])

#: Logits of the released preprocessing and network (width 1, position 144) for `raw()`.
GOLDEN_RAW = [0.547655, -0.927148, 0.505122]


def raw() -> np.ndarray:
    """(121, 145, 121) float64: a scan of the released grid, its first planes missing (NaN)."""
    scan = 40 + 900 * volume((121, 145, 121)).astype(np.float64)
    scan[:3] = np.nan
    return scan


def save(path: Path, tensors: dict[str, torch.Tensor], *, zipped: bool = True) -> Path:
    """A file as the released training loop writes it; `zipped` False is the format of torch before 1.6."""
    content = {
        "epoch": 12,
        "state_dict": tensors,
        "best_prec1": np.float64(61.2),
        "best_loss": 0.93,
        "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01).state_dict(),
        "args": Namespace(config="config", expansion=8),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("released") / "x1.pth.tar", prefixed(released(1)))


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    import_weights(checkpoint, output=checkpoint.parent / "model")
    return checkpoint.parent / "model"


@pytest.mark.parametrize(
    "width", [1, 2, pytest.param(4, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_logits_are_those_of_the_released_code(width: int, checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint if width == 1 else save(tmp_path / "x.pth.tar", prefixed(released(width)))
    net = load_reference_weights(path)
    scan = torch.from_numpy(volume((96, 96, 96)))[None, None]
    scans = torch.cat([scan, scan.flip(2)])
    with torch.inference_mode():
        for ages, expected in zip((None, AGES), GOLDEN[width], strict=True):
            torch.testing.assert_close(net(scans, ages), torch.tensor(expected), atol=1e-4, rtol=0)


def test_a_folder_predicts_what_the_released_preprocessing_and_network_say(folder: Path) -> None:
    found = predict_volume(folder, raw(), 72.0)
    np.testing.assert_allclose(found, torch.softmax(torch.tensor(GOLDEN_RAW), 0), atol=1e-4)


def test_storage_in_a_byte_moves_logits_little(folder: Path) -> None:
    """The bound that README gives: a value is off by at most 1/510 of the scan's range."""
    scan = np.nan_to_num(raw(), nan=0.0)
    scan *= MAX_INTENSITY / scan.max()
    stored = encode(scan, "uint8")
    assert np.abs(stored / 255 - scan / MAX_INTENSITY).max() <= 1 / 510 + 1e-9
    with torch.inference_mode():
        logits = load_model(folder)(torch.from_numpy(stored)[None, None], torch.tensor([72.0]))[0]
    golden = torch.tensor(GOLDEN_RAW)
    assert 0 < (logits - golden).abs().max() < 0.03
    assert (torch.softmax(logits, 0) - torch.softmax(golden, 0)).abs().max() < 0.01


@pytest.mark.parametrize("outer", ["", "module.", "model.", "module.model."])
def test_any_prefix_and_either_file_format_reads_alike(outer: str, tmp_path: Path, checkpoint: Path) -> None:
    tensors = hollow() | {"classifier.LinearClassifier2.bias": torch.tensor([1.0, 2, 3])}
    net = load_reference_weights(save(tmp_path / "old.pth.tar", prefixed(tensors, outer), zipped=False))
    assert net.classifier[1].bias.tolist() == [1, 2, 3] and not net.training
    torch.save(tensors, tmp_path / "bare.pth")
    assert load_reference_weights(tmp_path / "bare.pth").classifier[1].bias.tolist() == [1, 2, 3]


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    tensors = {name: weight.half() for name, weight in hollow().items()}
    net = load_reference_weights(save(tmp_path / "half.pth.tar", tensors))
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_age_is_kept_where_its_encoder_learnt(tmp_path: Path, folder: Path) -> None:
    assert load_reference_weights(save(tmp_path / "none.pth.tar", hollow(age=False))).age is None
    drawn = hollow() | {"age_encoder.fc6.lrn0_s1.weight": torch.ones(512)}
    path = save(tmp_path / "drawn.pth.tar", drawn)
    assert load_reference_weights(path).age is not None
    import_weights(path, output=tmp_path / "auto")
    import_weights(path, age="sinusoid", output=tmp_path / "asked")
    assert [read_facts(f)["network"]["age"] for f in (tmp_path / "auto", tmp_path / "asked", folder)] == [
        "none",
        "sinusoid",
        "sinusoid",
    ]
    with pytest.raises(BadInput, match="expected an age encoder"):
        import_weights(tmp_path / "none.pth.tar", age="sinusoid", output=tmp_path / "x")


CHANGES = {
    "norm": ({"conv.lrn1_s1.running_mean": torch.zeros(32)}, "conv.lrn1_s1.running_mean: the batch-norm variant"),
    "leftover": ({"projector.weight": torch.zeros(2, 2)}, "projector.weight beside them"),
    "missing": ({"conv.conv3_s1.bias": None}, "no conv.conv3_s1.bias"),
    "half an encoder": ({"age_encoder.fc6.fc6_s3.weight": None}, "no age_encoder.fc6.fc6_s3.weight"),
    "twice": ({"ema.conv.conv1_s1.bias": torch.zeros(32)}, "conv.conv0_s1.weight and ema.conv.conv1_s1.bias"),
    "two classes": (
        {"classifier.LinearClassifier2.weight": torch.zeros(2, 512)},
        "classifier.LinearClassifier2.weight of (3, 512), got (2, 512)",
    ),
    "width": (
        {"conv.conv0_s1.bias": torch.zeros(1).expand(10**9)},
        "got a width of 250000000",
    ),
    "another code": ({"age_encoder.pe": torch.zeros(240, 512)}, "values that are off by 1"),
    "integers": ({"fc6.fc6_s1.bias": torch.zeros(1024, dtype=torch.int64)}, "fc6.fc6_s1.bias in floating point"),
    "not finite": ({"fc6.fc6_s1.bias": torch.full((1024,), torch.nan)}, "finite numbers in fc6.fc6_s1.bias"),
    "no tensor": ({"fc6.fc6_s1.bias": [1.0]}, "list under 'fc6.fc6_s1.bias'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_network_is_refused_by_the_name_of_its_layer(change: str, tmp_path: Path) -> None:
    changed, told = CHANGES[change]
    tensors = {name: weight for name, weight in (hollow() | changed).items() if weight is not None}
    with pytest.raises(BadInput) as refusal:
        load_reference_weights(save(tmp_path / "x.pth.tar", tensors))
    assert told in str(refusal.value) and str(tmp_path) in str(refusal.value)


class Code:
    def __reduce__(self) -> tuple:
        return print, ("this ran",)


def _compressed() -> bytes:
    """A checkpoint that is packed again, compressed: a small file of any size once open."""
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"conv.conv0_s1.weight": torch.zeros(1_000_000)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return packed.getvalue()


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


FILES = {
    "code": (lambda: _saved({"state_dict": Code()}), "a pickled"),
    "a whole module": (lambda: _saved(nn.Linear(2, 2)), "a pickled torch.nn.modules.linear.Linear"),
    "compressed": (_compressed, "a compressed"),
    "text": (lambda: b"not a checkpoint", "a checkpoint of torch.save"),
    "nothing": (lambda: b"", "a checkpoint of torch.save"),
    "cut": (lambda: _saved(hollow())[:5000], "a checkpoint of torch.save"),
    "a list": (lambda: _saved([1, 2]), "a `state_dict` of tensors"),
    "empty": (lambda: _saved({}), "a `state_dict` of tensors, got nothing"),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_checkpoint_is_refused_and_nothing_in_it_runs(kind: str, tmp_path: Path, capsys) -> None:
    make, told = FILES[kind]
    path = tmp_path / "x.pth.tar"
    path.write_bytes(make())
    with pytest.raises(BadInput) as refusal:
        load_reference_weights(path)
    assert told in str(refusal.value)
    assert "this ran" not in capsys.readouterr().out
    with pytest.raises(BadInput, match="no such file"):
        load_reference_weights(tmp_path / "absent")


def test_command_writes_a_folder_with_its_provenance_and_card(checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "elr_mri", "import-weights", str(checkpoint), "--output", str(tmp_path / "model")]
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
    facts = read_facts(tmp_path / "model")
    assert facts["slug"] == "reference-x1-age" and facts["network"]["width"] == 1
    assert facts["preprocessing"]["shape"] == [121, 145, 121] and facts["preprocessing"]["standardise"] == "scan"
    assert len(facts["imported"]["sha256"]) == 64 and "AGPL" in facts["licence"]
    made = json.loads((tmp_path / "model" / "model.safetensors.json").read_text())
    assert made["step"] == "import-weights" and made["inputs"]["checkpoint"] == facts["imported"]["sha256"]
    card = (tmp_path / "model" / "model.md").read_text()
    assert facts["imported"]["sha256"] in card and "9,878,571" in card and "Not a medical device" in card

    (tmp_path / "bad").write_bytes(b"junk")
    refused = subprocess.run([*command[:4], str(tmp_path / "bad"), *command[5:]], capture_output=True, text=True)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def released_grid(tmp_path_factory: pytest.TempPathFactory) -> toy_study.Study:
    """Six packed scans on the released grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_study, "SHAPE", (121, 145, 121))
        return toy_study.write_study(tmp_path_factory.mktemp("grid"), n_subjects=6)


def test_predict_takes_an_imported_folder_on_a_cache_of_its_grid(
    folder: Path, released_grid: toy_study.Study, study: toy_study.Study, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="shape"):
        predict([folder], *study.paths, Predict(device="cpu"), output=tmp_path / "p.tsv")
    # the toy cache lies elsewhere than MNI's box
    with pytest.raises(BadInput, match="affine"):
        predict([folder], *released_grid.paths, Predict(device="cpu"), output=tmp_path / "p.tsv")
    meta = released_grid.cache / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"affine": study_grid(1.5).affine.tolist()}))
    predict([folder], *released_grid.paths, Predict(device="cpu"), output=tmp_path / "p.tsv")
    table = PREDICTIONS.read(tmp_path / "p.tsv")
    assert len(table) == 6 and set(table["model"]) == {"reference-x1-age"}
    cache = Cache.read(released_grid.cache)
    line = table.iloc[4]
    expected = predict_volume(folder, np.array(cache.volumes[cache.row(line["scan_id"])]), 64.0)
    np.testing.assert_allclose(line[list(P_COLUMNS)].to_numpy(dtype=float), expected, atol=1e-5)


@pytest.mark.slow
def test_explain_takes_an_imported_folder(folder: Path, released_grid: toy_study.Study, tmp_path: Path) -> None:
    meta = released_grid.cache / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"affine": study_grid(1.5).affine.tolist()}))
    explain(folder, *released_grid.paths, Explain(split="external", device="cpu"), output_dir=tmp_path)
    assert (tmp_path / "aggregate.nii.gz").is_file()
