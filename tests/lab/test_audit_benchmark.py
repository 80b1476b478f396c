"""The audit by volumes against an observer of the true severity, on people of the phantom whose volumes are planted and not measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from elr_mri.config import Noise, Phantom
from elr_mri.lab.audit import found
from elr_mri.lab.noise import wrong_labels
from elr_mri.phantom.effects import log_volume_change
from elr_mri.phantom.subjects import Visit, draw_subjects
from elr_mri.scans.table import CLASSES

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "audit.py"
spec = importlib.util.spec_from_file_location("audit_benchmark", PATH)
assert spec is not None and spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)

#: Relative error of a measured volume.
ERROR = 0.03
MM3 = {"hippocampus": 3500.0, "entorhinal": 1800.0}


def people(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scans of a phantom study with their truth, and their volumes as they would be measured."""
    settings = Phantom(seed=seed, n_subjects=90, n_external=0, visits_per_subject=2, effect_scale=1.5)
    rng = np.random.default_rng(seed)
    scans, volumes = [], []
    for subject in draw_subjects(settings):
        for visit in [v for v in subject.visits if v.scanned]:
            name = f"{subject.number}_{visit.months}"
            true = CLASSES.index(visit.true_label)
            scans.append({"scan_id": name, "age_years": visit.age_years, "severity": visit.severity, "true": true})
            volumes.append({"scan_id": name} | measured(visit, subject.individual, rng))
    return pd.DataFrame(scans), pd.DataFrame(volumes)


def measured(visit: Visit, individual: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """mm³ of both sides of each region."""
    change = log_volume_change(visit.severity, visit.age_years, individual, effect_scale=1.5, spread_scale=1.0)
    return {
        f"{region}_{side}": mm3 * np.exp(change[region] + ERROR * rng.standard_normal())
        for region, mm3 in MM3.items()
        for side in ("left", "right")
    } | {"intracranial": 1_500_000.0}


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    """What the volumes find of 20 % wrong labels as a share of what the observer finds, by study and draw."""
    rows = [
        row
        for seed in range(6)
        for scans, volumes in [people(seed)]
        for row in benchmark.of_draws(scans, volumes, 0.2, 4)
    ]
    table = pd.DataFrame(rows)
    return pd.DataFrame({name: table[f"ours_{name}"] / table[f"ideal_{name}"] for name in benchmark.MEASURES})


def test_the_volumes_find_most_of_what_an_observer_of_the_severity_finds(shares: pd.DataFrame):
    assert shares["average_precision"].mean() > 0.8
    assert shares["precision_at_10_percent"].mean() > 0.8
    assert (shares["average_precision"] < 1.05).all()


def test_the_observer_is_calibrated_and_beats_a_coin():
    scans, _ = people(0)
    true, severity = scans["true"].to_numpy(), scans["severity"].to_numpy()
    wrong, told = [], []
    for seed in range(40):
        given = wrong_labels(true, len(CLASSES), Noise(share=0.2, seed=seed)).given
        wrong.append(given != true)
        told.append(benchmark.observe(severity, given, 0.2))
    wrong, told = np.concatenate(wrong), np.concatenate(told)
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
        inside = (told >= low) & (told < high)
        assert inside.sum() > 50
        assert wrong[inside].mean() == pytest.approx(told[inside].mean(), abs=0.08)
    assert found(wrong, told)["average_precision"] > 0.8
