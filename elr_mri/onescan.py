"""One scan in, one page out: conversion, registration, quality control, volumes and a trained model, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import baseline, stored
from elr_mri.findings.page import photo, render
from elr_mri.imaging.cache import stored_row
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.register import register_converted
from elr_mri.imaging.template import MNI
from elr_mri.learning.checkpoint import read_facts
from elr_mri.learning.predict import predict_volume
from elr_mri.provenance import versions, write_json, write_text
from elr_mri.scans.cells import one_line
from elr_mri.scans.table import CLASSES

SCAN_ID = "scan"


def predict_scan(
    scan: Path | str,
    *,
    model_dir: Path | str,
    age_years: float | None,
    out_dir: Path | str,
    baseline_path: Path | str | None = None,
    own: bool = False,
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
    own : bool
        The model is not a stranger's: a template or label map that its `model.json` names by path may be read.

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
    sections = _sections(facts, model_dir, own=own)
    told = {"scan": Path(scan).name, "model": facts["slug"], "seed": facts["seed"], "age_years": age_years}
    registered = _prepare(str(scan), *sections[:2], out_dir, told)
    measuring = sections[2]
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


def _sections(
    facts: Mapping[str, Any], model_dir: Path, *, own: bool
) -> tuple[config.Convert, config.Register, config.Measure]:
    """How the model's training scans were prepared, checked; files that a stranger's model names are not read."""
    where, told = f"{model_dir}/model.json, preprocessing.settings", facts["preprocessing"]["settings"]
    convert = config.parse(config.Convert, told["convert"], where=where)
    register = config.parse(config.Register, told["register"], where=where)
    measure = config.parse(config.Measure, _measuring(told["measure"]), where=where)
    named = [register.template_mask, *([register.template] if "templateflow:" not in register.template else [])]
    paths = [name for name in (*named, measure.labels) if name not in (None, MNI, "shipped")]
    if paths and not own:
        raise BadInput(
            expected="a model that names no files of its own", got=one_line(paths[0]), where=where,
            fix="If the model is yours, or you know that file, say --own.",
        )  # fmt: skip
    return convert, register, measure


def _prepare(
    scan: str, convert: config.Convert, register: config.Register, out_dir: Path, told: dict[str, Any]
) -> dict[str, Any]:
    """Convert and register; a scan that fails is written down as refused and raises `BadInput`."""
    folder = out_dir / SCAN_ID
    converted = convert_scan(scan, folder, SCAN_ID, convert)
    if converted["status"] == "fail":
        raise _refusal(out_dir, told, scan, converted["reason"])
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


def _measuring(told: Mapping[str, Any]) -> dict[str, Any]:
    """How the scan is measured: as the training scans; by registration where theirs were read from tables."""
    if told.get("source", "registered") != "registered":
        return {**told, "source": "registered", "path": None}
    return dict(told)


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
    model = stored.read(baseline_path, baseline.VERSION)
    if isinstance(model, int):
        return {}, f"the volume baseline is of version {model}, not {baseline.VERSION}: run it again"
    if model["source"] != source:
        return {}, (
            f"the volume baseline was trained on {model['source']} volumes, with which this scan's {source} ones are "
            "not comparable"
        )
    found = baseline.percentile(model, volumes_mm3, age_years=age_years, source=source)
    return found, "" if found else "the study has too few cognitively normal training scans for a reference"
