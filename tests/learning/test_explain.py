from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from toy_study import SHAPE, Study

from elr_mri.config import Explain, Train
from elr_mri.learning.checkpoint import Model
from elr_mri.learning.explain import explain, magnitude, saliency
from elr_mri.learning.train import train


class Linear(nn.Module):
    """Scores z_c = ⟨w_c, x⟩."""

    def __init__(self, weights: torch.Tensor):
        super().__init__()
        self.weights = weights

    def forward(self, volumes: torch.Tensor, ages_years: torch.Tensor | None = None) -> torch.Tensor:
        return volumes.flatten(1) @ self.weights.T


def test_saliency_of_a_linear_model_is_its_weights() -> None:
    """The gradient of z_AD − z_CN is w_AD − w_CN, whatever the scan and whatever w_MCI."""
    torch.manual_seed(0)
    network = {"name": "wide", "width": 1, "crop": 35, "first_pool": False}
    model = Model(network, "scan", SHAPE)
    weights = torch.randn(3, 35**3)
    model.network = Linear(weights)
    volumes = torch.zeros(2, 1, *SHAPE)
    maps, _ = saliency(model, volumes, None, shifts=((0, 0, 0),))
    expected = torch.zeros(SHAPE)
    expected[1:36, 2:37, 1:36] = (weights[2] - weights[0]).view(35, 35, 35)
    for found in maps:
        torch.testing.assert_close(found[0], expected / expected.abs().sum(), atol=1e-9, rtol=1e-3)


def test_what_differs_in_sign_from_scan_to_scan_cancels_in_the_aggregate() -> None:
    ours, theirs = np.array([[[[1.0, 2.0, -3.0]]]]), np.array([[[[-1.0, 2.0, -3.0]]]])
    np.testing.assert_allclose(magnitude(ours + theirs), [[[0, 0.4, 0.6]]])


@pytest.fixture(scope="module")
def explained(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    models = {"wide": {"network": "wide", "width": 1, "first_pool": False}}
    settings = Train(models=models, epochs=2, batch_size=4, crop=35, shift_max=1, precision="float32", device="cpu")
    train(*study.paths, settings, slug="wide", seed=0, out_dir=folder / "model", progress=lambda line: None)
    explain(folder / "model", *study.paths, Explain(split="test"), output_dir=folder / "maps")
    return folder / "maps"


def test_maps_lie_on_the_packed_grid_and_sum_to_one(explained: Path) -> None:
    names = {p.name for p in explained.glob("aggregate*.nii.gz")}
    assert names == {f"aggregate{s}.nii.gz" for s in ("", "_CN", "_MCI", "_AD", "_random")}
    for name in names:
        image = nib.load(explained / name)
        values = image.get_fdata()
        assert image.shape == SHAPE and np.allclose(image.affine, np.diag([3, 3, 3, 1]))
        assert values.sum() == pytest.approx(1, abs=1e-4) and values.min() >= 0
        assert values[:4].sum() == 0  # constant background


def test_examples_are_listed_and_written(explained: Path) -> None:
    table = pd.read_csv(explained / "examples.tsv", sep="\t")
    assert table.columns.tolist() == ["class", "scan_id", "p", "right", "row"]
    assert table["class"].is_unique
    assert {p.name for p in explained.glob("example_*.nii.gz")} == {f"example_{c}.nii.gz" for c in table["class"]}
    assert (table["row"] % 3).map(dict(enumerate(("CN", "MCI", "AD")))).tolist() == table["class"].tolist()


def test_a_map_of_two_channels_counts_both() -> None:
    values = np.array([[[[1.0, 0.0]]], [[[-1.0, 2.0]]]])
    np.testing.assert_allclose(magnitude(values), [[[0.5, 0.5]]])
