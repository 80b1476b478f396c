"""Exports say what the model says: ONNX under onnxruntime, the MONAI bundle under monai.bundle without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from toy_study import SHAPE

from elr_mri.errors import BadInput
from elr_mri.imaging.packed import MAX_INTENSITY, MAX_LOG_JACOBIAN, encode
from elr_mri.learning import export as exporting
from elr_mri.learning.checkpoint import Model, load_model, save_model
from elr_mri.learning.export import export, run_onnx
from elr_mri.learning.predict import predict_volume

#: What is varied: the network's name, age, standardisation and channels.
MODELS = {
    "age": ("wide", "sinusoid", "voxel", ["T1w"]),
    "scalar": ("wide", "scalar", "voxel", ["T1w"]),
    "plain": ("wide", "none", "scan", ["T1w"]),
    "two-channels": ("resnet18", "none", "voxel", ["T1w", "log_jacobian"]),
}


def write_model(folder: Path, kind: str) -> Path:
    """A model folder with random weights and statistics."""
    name, age, standardise, channels = MODELS[kind]
    network = {"name": name, "n_classes": 3, "width": 1, "norm": "instance", "age": age, "crop": 35}
    network |= {"first_pool": False, "channels": len(channels)}
    torch.manual_seed(0)
    model = Model(network, standardise, ((len(channels),) if len(channels) > 1 else ()) + SHAPE)
    for layer in model.network.classifier.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.1)  # scores of about 1, so that a difference shows
    if standardise == "voxel":
        model.standardise.centre.uniform_(90, 150)
        model.standardise.scale.uniform_(0, 0.1)
    facts = {
        "slug": kind,
        "seed": 0,
        "network": network,
        "preprocessing": {
            "standardise": standardise,
            "channels": channels,
            "shape": list(SHAPE),
            "spacing_mm": 3.0,
            "dtype": "uint8",
        },
        "trained_on": None,
        "imported": {"file": "x", "sha256": "0", "layout": "y"},
    }
    save_model(folder, model, facts)
    return folder


def scan(n_channels: int) -> np.ndarray:
    """(n_channels, X, Y, Z) float32: intensities, and log-Jacobians beyond what is stored."""
    rng = np.random.default_rng(3)
    parts = [rng.uniform(-0.1, 1.1 * MAX_INTENSITY, SHAPE), rng.normal(0, MAX_LOG_JACOBIAN / 2, SHAPE)]
    return np.stack(parts[:n_channels]).astype(np.float32)


def stored(values: np.ndarray) -> np.ndarray:
    return np.stack([encode(part, "uint8", channel) for part, channel in zip(values, ("T1w", "log_jacobian"))])


@pytest.mark.parametrize("kind", MODELS)
def test_onnx_says_what_the_model_says(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = write_model(tmp_path / "model", kind)
    export(folder, form="onnx", output=tmp_path / "model.onnx")
    made = json.loads((tmp_path / "model.onnx.json").read_text())
    assert made["step"] == "export" and len(made["inputs"]["model"]) == 64
    volume = stored(scan(len(MODELS[kind][3])))
    for ages in ([71.3], [71.3, 71.8, 119.9, np.nan]):
        batch = torch.from_numpy(np.stack([np.roll(volume, i, axis=1) for i in range(len(ages))])).float()
        logits, probabilities = run_onnx(tmp_path / "model.onnx", (batch, torch.tensor(ages, dtype=torch.float32)))
        assert logits.shape == probabilities.shape == (len(ages), 3)
        with torch.inference_mode():
            model = load_model(folder)
            for i, age in enumerate(ages):
                known = None if np.isnan(age) else torch.tensor([age], dtype=torch.float32)
                expected = model(batch[i : i + 1], known)[0]
                np.testing.assert_allclose(logits[i], expected, atol=1e-4)
                np.testing.assert_allclose(probabilities[i], torch.softmax(expected, 0), atol=1e-4)
    if MODELS[kind][1] != "none":
        assert np.abs(logits[0] - logits[3]).max() > 1e-3  # another scan and no age


@pytest.mark.parametrize("kind", ["age", "two-channels"])
def test_bundle_runs_on_images_without_this_package(kind: str, tmp_path: Path) -> None:
    channels = MODELS[kind][3]
    folder = write_model(tmp_path / "model", kind)
    bundle, data = tmp_path / "bundle", tmp_path / "data"
    export(folder, form="bundle", output=bundle)
    names = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    assert names == {
        "LICENSE",
        "configs/inference.json",
        "configs/metadata.json",
        "docs/README.md",
        "models/model.ts",
    }
    data.mkdir()
    values = scan(len(channels))
    affine = np.diag([3.0, 3, 3, 1])
    for part, channel in zip(values, channels):
        nib.save(nib.Nifti1Image(part, affine), data / f"{channel}.nii.gz")
        # the same image with the first axis told from right to left
        flipped = affine @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        nib.save(nib.Nifti1Image(part[::-1].copy(), flipped), data / f"las_{channel}.nii.gz")
    listed = [
        {**{channel: f"{channel}.nii.gz" for channel in channels}, "age_years": 71.3},
        {channel: f"las_{channel}.nii.gz" for channel in channels},
    ]
    (data / "scans.json").write_text(json.dumps(listed))
    (tmp_path / "elr_mri.py").write_text("raise ImportError('not here')")
    code = f"from monai.bundle import run; run(config_file='configs/inference.json', dataset_dir={str(data)!r})"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=bundle, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True, capture_output=True)
    packed = stored(values)[0] if len(channels) == 1 else stored(values)
    for line, age in zip(json.loads((data / "predictions.json").read_text()), (71.3, None), strict=True):
        np.testing.assert_allclose(list(line["probabilities"].values()), predict_volume(folder, packed, age), atol=1e-4)
        assert list(line["probabilities"]) == ["CN", "MCI", "AD"] and len(line["logits"]) == 3


def test_bundle_metadata_has_what_the_schema_requires(tmp_path: Path) -> None:
    """`required` of MONAI's meta_schema_20240725.json, of the file and of each tensor."""
    export(write_model(tmp_path / "model", "plain"), form="bundle", output=tmp_path / "bundle")
    told = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text())
    texts = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description")
    assert all(isinstance(told[key], str) for key in (*texts, "authors", "copyright"))
    assert isinstance(told["required_packages_version"], dict)
    for tensors in (told["network_data_format"]["inputs"], told["network_data_format"]["outputs"]):
        for tensor in tensors.values():
            assert {"type", "format", "dtype"} <= {key for key, value in tensor.items() if isinstance(value, str)}
            assert isinstance(tensor["num_channels"], int)
            assert isinstance(tensor["spatial_shape"], list) and isinstance(tensor["value_range"], list)


def test_a_file_that_differs_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model", "plain")
    monkeypatch.setattr(exporting, "write_onnx", lambda plain, examples, path: path.write_bytes(b"x"))
    monkeypatch.setattr(exporting, "find_spec", lambda name: True)
    for off in (2e-4, np.nan):
        monkeypatch.setattr(
            exporting,
            "run_onnx",
            lambda path, examples, off=off: [a + off for a in exporting.model_outputs(load_model(folder), examples)],
        )
        with pytest.raises(BadInput, match="within 0.0001 of the model"):
            export(folder, form="onnx", output=tmp_path / "model.onnx")
    assert not list(tmp_path.glob("model.onnx*"))


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(BadInput, match=r"no onnxscript.*pip install --editable '\.\[export\]'"):
        export(write_model(tmp_path / "model", "plain"), form="onnx", output=tmp_path / "model.onnx")


@pytest.mark.parametrize("form", ["onnx", "bundle"])
def test_another_folder_is_never_replaced(form: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "plain")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="another folder"):
        export(folder, form=form, output=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_command_exports(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "plain")
    command = [sys.executable, "-m", "elr_mri", "export", "--model", str(folder), "--format", "bundle"]
    subprocess.run([*command, "--output", str(tmp_path / "bundle")], check=True)
    subprocess.run([*command, "--output", str(tmp_path / "bundle")], check=True)  # an earlier export is replaced
    assert (tmp_path / "bundle" / "models" / "model.ts").is_file()
    refused = subprocess.run([*command, "--output", str(folder)], capture_output=True, text=True)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
