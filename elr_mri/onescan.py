"""One scan in, one page out: conversion, registration, quality control, volumes and a trained model, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import baseline
from elr_mri.findings.page import photo, render
from elr_mri.imaging.cache import stored_row
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.register import register_converted
from elr_mri.learning.checkpoint import read_facts
from elr_mri.learning.predict import predict_volume
from elr_mri.provenance import read_json, versions, write_json, write_text
from elr_mri.scans.table import CLASSES

SCAN_ID = "scan"


def predict_scan(
    scan: Path | str,
    *,
    model_dir: Path | str,
    age_years: float | None,
    out_dir: Path | str,
    baseline_path: Path | str | None = None,
) -> dict[str, Any]:
    """Predict one scan and write what a reader needs to judge the prediction.

    Writes in `out_dir`: `prediction.json`, `report.html` (one self-contained page), and in `scan/` the converted,
    registered and measured scan as the workflow writes them, with the picture of the registration.

    Parameters
    ----------
    scan : path
        A NIfTI or MGZ file, or a folder of one DICOM series; a T1-weighted head or brain.
    model_dir : path
        A model folder; the scan is prepared exactly as its training scans were.
    age_years : float or None
        Needed by models that encode age, and for the percentiles.
    baseline_path : path or None
        `model.json` of the volume baseline, for the percentiles; by default that of the study that the model lies in.

    Raises
    ------
    BadInput
        Where the scan cannot be read, or quality control fails it; `prediction.json` then holds the reason.
    """
    out_dir, model_dir = Path(out_dir), Path(model_dir)
    for earlier in ("prediction.json", "report.html"):
        (out_dir / earlier).unlink(missing_ok=True)  # a refused scan must not leave another scan's page behind
    facts = read_facts(model_dir)
    _check_age(facts, age_years)
    if "settings" not in facts["preprocessing"]:
        raise BadInput(
            expected="a model that tells how its scans were prepared",
            got="an imported one",
            where=str(model_dir),
            fix="Register and pack the scan, then run `elr-mri predict`.",
        )
    told = {"scan": Path(scan).name, "model": facts["slug"], "seed": facts["seed"], "age_years": age_years}
    registered = _prepare(str(scan), facts["preprocessing"]["settings"], out_dir, told)
    measuring = _measuring(facts)
    measured = measure_scan(out_dir / SCAN_ID, out_dir / SCAN_ID, SCAN_ID, measuring)
    percentiles, why_none = _percentiles(
        Path(baseline_path or _baseline_of(model_dir)), measured["volumes_mm3"], age_years, facts, measuring.source
    )
    volume = _volume(out_dir, facts["preprocessing"])
    probabilities = predict_volume(model_dir, volume, age_years)
    told |= {
        "status": registered["status"],
        "reasons": registered["reasons"],
        "probabilities": dict(zip(CLASSES, (round(float(p), 4) for p in probabilities))),
        "volumes_mm3": {name: round(value, 1) for name, value in measured["volumes_mm3"].items()},
        "volumes_source": measuring.source,
        "percentiles": percentiles,
        "percentiles_missing": why_none,
        "quality": registered["numbers"],
        "trained_on": facts["trained_on"],
        "versions": versions(),
    }
    write_json(out_dir / "prediction.json", told)
    picture = out_dir / SCAN_ID / registered["files"]["picture"]
    write_text(
        out_dir / "report.html",
        render("onescan.html.j2", {**told, "title": f"{told['scan']}: one scan", "picture": photo(picture)}),
    )
    return told


def _check_age(facts: Mapping[str, Any], age_years: float | None) -> None:
    """Refuse a missing or impossible age where the model needs one."""
    if age_years is None and facts["network"]["age"] != "none":
        raise BadInput(
            expected="an age",
            got="none",
            where="--age",
            fix=f"The model {facts['slug']} encodes age: give it in years.",
        )
    if age_years is not None and not 18 <= age_years < 120:
        raise BadInput(
            expected="an age of 18 to 119 years", got=f"{age_years:g}", where="--age", fix="Give the age at the scan."
        )


def _prepare(scan: str, settings: Mapping[str, Any], out_dir: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Convert and register; a scan that fails is written down as refused and raises `BadInput`."""
    folder = out_dir / SCAN_ID
    converted = convert_scan(scan, folder, SCAN_ID, config.Convert.model_validate(settings["convert"]))
    if converted["status"] == "fail":
        raise _refusal(out_dir, told, scan, converted["reason"])
    register = config.Register.model_validate(settings["register"])
    registered = register_converted(folder, folder, SCAN_ID, register)
    if registered["status"] == "fail":
        raise _refusal(out_dir, told, scan, registered["reason"])
    return registered


def _refusal(out_dir: Path, told: dict[str, Any], scan: str, reason: str) -> BadInput:
    write_json(out_dir / "prediction.json", {**told, "status": "fail", "reasons": [reason]})
    return BadInput(
        expected="a T1-weighted scan of a whole human head or brain",
        got=reason,
        where=scan,
        fix=f"Look at the pictures in {out_dir}; no prediction is made from a scan that fails quality control.",
    )


def _measuring(facts: Mapping[str, Any]) -> config.Measure:
    """How the scan is measured: as the training scans; by registration where theirs were read from tables."""
    settings = facts["preprocessing"]["settings"]["measure"]
    if settings.get("source", "registered") != "registered":
        settings = {**settings, "source": "registered", "path": None}
    return config.Measure.model_validate(settings)


def _volume(out_dir: Path, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """The registered scan as the cache would store it, (X, Y, Z) or (n_channels, X, Y, Z)."""
    return stored_row(out_dir, SCAN_ID, preprocessing["space"], preprocessing["dtype"], dict(preprocessing))


def _baseline_of(model_dir: Path) -> Path:
    """Where the workflow keeps the volume baseline of the study that a model folder lies in."""
    return model_dir.resolve() / ".." / ".." / ".." / "findings" / "baseline" / "model.json"


def _percentiles(
    baseline_path: Path,
    volumes_mm3: Mapping[str, float],
    age_years: float | None,
    facts: Mapping[str, Any],
    source: str,
) -> tuple[dict[str, float], str]:
    """Percentiles of the hippocampi among controls of that age; or none, and why."""
    youngest, oldest = facts["trained_on"]["age_years"]
    if age_years is None:
        return {}, "the age is unknown"
    if not youngest <= age_years <= oldest:
        return {}, f"the age is outside of the training scans' {youngest:.0f} to {oldest:.0f} years"
    if not baseline_path.is_file():
        return {}, "the study's volume baseline is missing"
    model = read_json(baseline_path)
    if model.get("version") != baseline.VERSION:
        return {}, f"the volume baseline is of version {model.get('version')}, not {baseline.VERSION}: run it again"
    if model["source"] != source:
        return {}, (
            f"the volume baseline was trained on {model['source']} volumes, with which this scan's {source} ones are "
            "not comparable"
        )
    found = baseline.percentile(model, volumes_mm3, age_years=age_years, source=source)
    return found, "" if found else "the study has too few cognitively normal training scans for a reference"
