"""All cohorts of a study looked at; what cannot be looked at is told as missing, never raised."""

from __future__ import annotations

from pathlib import Path

from elr_mri.config import Cohort, Study
from elr_mri.doctor import adni, nacc, written
from elr_mri.doctor.download import Download, Missing, count_files, refusal
from elr_mri.errors import BadInput
from elr_mri.provenance import is_current, read_json, sidecar
from elr_mri.scans.download import files_under
from elr_mri.stages import VERSIONS

_LOOKS = {"adni": adni.look, "nacc": nacc.look, "bids": written.look_bids}


def look(cohort: Cohort, study: Study) -> Download:
    """What a cohort's folder, or its table of scans, holds."""
    found = Download(cohort.name, cohort.format, cohort.path)
    if made_by_run(cohort, study) and not phantom_is_made(study):
        return found
    try:
        _look(found, cohort)
    except BadInput as problem:
        found.missing.append(refusal(problem))
    return found


def _look(found: Download, cohort: Cohort) -> None:
    """Add what is there; a folder that is not there counts as an empty one, so that all that belongs into it is told."""
    if cohort.format == "tsv":
        written.look_table(found, cohort)
        return
    there = Path(cohort.path).is_dir()
    if not there:
        found.missing.append(
            Missing(f"the folder {cohort.path}", f"make it, or correct the path of cohort {cohort.name}")
        )
    files = files_under(cohort.path) if there else []
    count_files(found, files)
    if cohort.format in _LOOKS:
        _LOOKS[cohort.format](found, cohort, files)
    else:
        found.warnings.append(f"doctor does not look into the format {cohort.format}; ingest will")


def made_by_run(cohort: Cohort, study: Study) -> bool:
    """Whether the run itself makes this cohort's download: the phantom study's."""
    return study.phantom is not None and _phantom_folder(study) in (Path(cohort.path), *Path(cohort.path).parents)


def phantom_is_made(study: Study) -> bool:
    """Whether the phantom's downloads of this very config are there already."""
    marker = _phantom_folder(study) / "study.json"
    try:
        inputs = read_json(sidecar(marker)).get("inputs", {})
    except (OSError, ValueError, AttributeError):
        return False
    return is_current(marker, step="phantom", version=VERSIONS["phantom"], inputs=inputs, settings=study.phantom)


def phantom_scans(study: Study, *, external: bool) -> int:
    """About how many scans the phantom makes for its ADNI-like or its NACC-like cohort: each subject draws 1 to
    `visits_per_subject`."""
    subjects = study.phantom.n_external if external else study.phantom.n_subjects
    return round(subjects * (1 + study.phantom.visits_per_subject) / 2)


def _phantom_folder(study: Study) -> Path:
    return Path(study.results) / "phantom"
