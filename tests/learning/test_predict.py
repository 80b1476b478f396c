"""Several crops and several seeds of one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import Study

from elr_mri.config import Predict, Train
from elr_mri.errors import BadInput
from elr_mri.learning.checkpoint import load_model
from elr_mri.learning.dataset import read_scan_set
from elr_mri.learning.predict import crop_shifts, predict, scan_logits
from elr_mri.learning.train import train
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS


@pytest.fixture(scope="module")
def seeds(study: Study, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    models = {"wide": {"network": "wide", "width": 1, "first_pool": False}}
    settings = Train(models=models, epochs=1, crop=35, device="cpu")
    for seed in range(3):
        train(*study.paths, settings, slug="wide", seed=seed, out_dir=folder / str(seed), progress=lambda line: None)
    return [folder / str(seed) for seed in range(3)]


def test_crops_begin_at_the_centre_and_lie_on_a_cube() -> None:
    shifts = crop_shifts(27, 4)
    assert shifts[0] == (0, 0, 0) and len(set(shifts)) == 27
    assert np.all(np.abs(shifts[1:9]) == 4)
    assert crop_shifts(1, 4) == [(0, 0, 0)]


def test_a_prediction_is_the_mean_over_its_crops(study: Study, seeds: list[Path]) -> None:
    scans, model = read_scan_set(*study.paths), load_model(seeds[0])
    shifts = [(0, 0, 0), (1, -1, 0), (-1, 2, 1)]
    each = [scan_logits(model, scans, batch_size=5, shifts=[shift]) for shift in shifts]
    together = scan_logits(model, scans, batch_size=4, shifts=shifts)
    torch.testing.assert_close(together, sum(each) / 3, atol=1e-5, rtol=0)
    assert not torch.allclose(each[0], each[1], atol=1e-5)


def test_a_shifted_crop_is_the_central_one_of_a_shifted_scan(study: Study, seeds: list[Path]) -> None:
    """(38, 40, 37) and a crop of 35: the crop starts at (1, 2, 1), and at (2, 1, 0) when shifted."""
    model, scans = load_model(seeds[0]), read_scan_set(*study.paths)
    volumes = model.standardise(scans.read(np.arange(2)))
    expected = volumes[:, :, 2:37, 1:36, 0:35]
    torch.testing.assert_close(model.centre(scans.read(np.arange(2)), (1, -1, -1)), expected)
    assert model.centre(scans.read(np.arange(2)), (9, 9, 9)).shape == expected.shape


def test_seeds_together_say_the_mean_of_their_probabilities(study: Study, seeds: list[Path], tmp_path: Path) -> None:
    tables = []
    for n, folder in enumerate(seeds):
        predict([folder], *study.paths, Predict(), output=tmp_path / f"{n}.tsv")
        tables.append(PREDICTIONS.read(tmp_path / f"{n}.tsv"))
    predict(seeds, *study.paths, Predict(), output=tmp_path / "all.tsv")
    ensemble = PREDICTIONS.read(tmp_path / "all.tsv")
    assert set(ensemble["model"]) == {"wide-ensemble"} and len(ensemble) == 18
    mean = np.mean([table[list(P_COLUMNS)].to_numpy(float) for table in tables], axis=0)
    np.testing.assert_allclose(ensemble[list(P_COLUMNS)], mean, atol=1e-9)
    logits = ensemble[list(Z_COLUMNS)].to_numpy(float)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), mean, atol=1e-9)


def test_an_ensemble_of_one_seed_twice_is_refused(study: Study, seeds: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        predict([seeds[0], seeds[0]], *study.paths, Predict(), output=tmp_path / "p.tsv")
