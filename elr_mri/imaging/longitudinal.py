"""Register the visits of a subject together: `register.longitudinal`.

Every visit is first registered by itself, so that one that fails spoils no template; two or more that did not fail
share a within-subject template (`within_subject`). The files of a visit are the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.config import Register
from elr_mri.imaging import names, qc
from elr_mri.imaging.register import (
    NoBrain,
    Registered,
    align_file,
    kept_verdict,
    numbers_of,
    origin,
    publish,
    refuse,
    register_converted,
    template_of,
)
from elr_mri.imaging.within_subject import Visit, share_template
from elr_mri.provenance import read_json


def by_subject(
    scans: pd.DataFrame, convert_dir: Path, out_dir: Path, settings: Register
) -> Callable[[pd.Series], dict]:
    """The step of a batch for one row of `scans`: a subject's first visit brings the others."""
    done: dict[str, dict] = {}

    def one(row: pd.Series) -> dict:
        if row.scan_id not in done:
            own = scans[(scans["cohort"] == row.cohort) & (scans["subject_id"] == row.subject_id)]
            done.update(register_visits(convert_dir, out_dir, list(own["scan_id"]), settings))
        return done[row.scan_id]

    return one


def register_visits(
    convert_dir: Path | str, out_dir: Path | str, scan_ids: Sequence[str], settings: Register
) -> dict[str, dict]:
    """Register all visits of one subject; their verdicts by scan.

    A visit that was not converted, or already lies in MNI space, goes its own way. Whatever the others become stands
    for all of them: with a visit more, all are registered anew.
    """
    convert_dir, out_dir = Path(convert_dir), Path(out_dir)
    told = {scan_id: read_json(convert_dir / scan_id / f"{scan_id}_convert.json") for scan_id in scan_ids}
    native = {scan_id: t["sha256"] for scan_id, t in told.items() if t["status"] != "fail" and "space" not in t}
    if len(native) < 2:
        native = {}
    verdicts = {
        scan_id: register_converted(convert_dir / scan_id, out_dir / scan_id, scan_id, settings)
        for scan_id in scan_ids
        if scan_id not in native
    }
    if not native:
        return verdicts
    return verdicts | (_kept(out_dir, native, settings) or _register(convert_dir, out_dir, native, settings))


def _origin(native: dict[str, str], scan_id: str, settings: Register) -> dict:
    return origin({"T1w": native[scan_id], "visits": native}, settings)


def _kept(out_dir: Path, native: dict[str, str], settings: Register) -> dict[str, dict] | None:
    """The verdicts of visits that are all registered and still stand for their inputs; otherwise None.

    A refused visit leaves no image whose sidecar could tell: it stands as long as another one does.
    """
    verdicts, images = {}, 0
    for scan_id in native:
        verdict = kept_verdict(out_dir / scan_id, scan_id, settings, _origin(native, scan_id, settings))
        images += verdict is not None
        path = names.verdict_path(out_dir / scan_id, scan_id)
        if verdict is None and path and "files" not in (told := read_json(path)):
            verdict = told
        if verdict is None:
            return None
        verdicts[scan_id] = verdict
    return verdicts if images else None


def _register(convert_dir: Path, out_dir: Path, native: dict[str, str], settings: Register) -> dict[str, dict]:
    """Register the visits anew and write everything about them."""
    verdicts: dict[str, dict] = {}
    found: dict[str, Registered] = {}
    for scan_id in native:
        try:
            found[scan_id] = align_file(convert_dir / scan_id / f"{scan_id}_T1w.nii.gz", settings)
        except (NoBrain, np.linalg.LinAlgError) as problem:
            verdicts[scan_id] = refuse(out_dir / scan_id, scan_id, str(problem), settings)
    facts = _share(found, settings)
    for scan_id in native:
        names.forget_others(out_dir / scan_id, scan_id, template_of(settings).id)
    for scan_id, visit in found.items():
        verdicts[scan_id] = publish(
            out_dir / scan_id, scan_id, visit, settings, _origin(native, scan_id, settings), facts.get(scan_id, {})
        )
    return verdicts


def _share(found: dict[str, Registered], settings: Register) -> dict[str, dict]:
    """Lead the visits that do not fail by themselves through their own template, in place; what `qc.json` says of
    it."""
    template = template_of(settings)
    sharing = [scan_id for scan_id, visit in found.items() if qc.verdict(numbers_of(template, visit))[0] != "fail"]
    if len(sharing) < 2:
        return {}
    visits = [Visit(found[scan_id].brain, found[scan_id].affine, found[scan_id].matrix) for scan_id in sharing]
    facts = {}
    for scan_id, shared in zip(sharing, share_template(visits, template, settings), strict=True):
        found[scan_id] = replace(found[scan_id], matrix=shared.matrix, warp=shared.warp)
        facts[scan_id] = {"within_subject": {"visits": sharing, "correlation": round(shared.correlation, 4)}}
    return facts
