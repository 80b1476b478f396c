"""Where every image went: found = kept + excluded, and kept = packed + failed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.imaging.cache import STATUS


def images(scans: pd.DataFrame, exclusions: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Rows (cohort, what became of the images, count): found, kept, then each reason of exclusion."""
    rows = []
    for cohort in sorted({*scans["cohort"], *exclusions["cohort"]}):
        kept = int((scans["cohort"] == cohort).sum())
        reasons = exclusions.loc[exclusions["cohort"] == cohort, "reason"].value_counts()
        rows += [(cohort, "found", kept + int(reasons.sum())), (cohort, "kept", kept)]
        rows += [(cohort, f"excluded: {reason}", int(count)) for reason, count in reasons.items()]
    return rows


def scan_states(scans: pd.DataFrame, status_path: Path) -> pd.DataFrame:
    """The final state of every kept scan, with its cohort; refuses a table that lost or gained a scan."""
    status = STATUS.read(status_path)
    if strange := set(status["scan_id"]) ^ set(scans["scan_id"]):
        raise BadInput(
            expected="one state for every scan of the scan table",
            got=f"{len(strange)} scans in one table only, e.g. {min(strange)}",
            where=str(status_path),
            fix="Run `pack` again.",
        )
    return status.merge(scans[["scan_id", "cohort"]], on="scan_id")


def state_counts(states: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Rows (cohort, state, count): ready, ready but to be looked at, then failures by step."""
    rows = []
    for cohort, group in states.groupby("cohort"):
        counts = group["status"].value_counts()
        rows.append((cohort, "kept", len(group)))
        rows.append((cohort, "packed", int(counts.get("pass", 0) + counts.get("review", 0))))
        rows.append((cohort, "packed, marked for review by QC", int(counts.get("review", 0))))
        failed = group[group["status"] == "fail"]["step"].fillna("unknown step").value_counts()
        rows += [(cohort, f"failed at {step}", int(count)) for step, count in failed.items()]
    return rows
