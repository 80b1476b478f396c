"""The last word on every scan: quality control's verdicts gathered, shown worst first, and overruled where a person says
so.

    review.tsv   scan_id, verdict, step, reasons, decided_by, and one column per number of quality control
    review.html  the same as a page with the pictures, worst first

A person writes decisions into a table of their own (`review.decisions`: scan_id, verdict, note). They count in both
directions, but a scan that was never registered has no outputs and cannot pass. Nothing is registered again.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from elr_mri import pages
from elr_mri.config import Review
from elr_mri.errors import BadInput
from elr_mri.imaging import names, picture
from elr_mri.imaging.batch import STATES
from elr_mri.imaging.qc import LIMITS, outside, slack
from elr_mri.provenance import digest_file, read_json, record, write_text
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["review"]
TEMPLATES = Path(__file__).with_name("templates")

DECISIONS = Schema(
    name="review decisions",
    version=1,
    key=("scan_id",),
    columns=(Column("scan_id"), Column("verdict", allowed=("pass", "fail")), Column("note", required=False)),
)
REVIEW = Schema(
    name="review",
    version=1,
    key=("scan_id",),
    columns=(
        Column("scan_id"),
        Column("verdict", allowed=STATES),
        Column("step", required=False),
        Column("reasons", required=False),
        Column("decided_by", allowed=("qc", "person")),
        *(Column(name, "number", required=False) for name in LIMITS),
    ),
)


def review(
    scans_path: Path | str, convert_dir: Path | str, register_dir: Path | str, settings: Review, out_dir: Path | str
) -> None:
    """Write `review.tsv` and `review.html` in `out_dir`.

    Raises
    ------
    BadInput
        Where the table of decisions names an unknown scan or one twice, holds another verdict than pass or fail, or
        passes a scan that was not registered.
    """
    scans, out_dir = read_scans(scans_path), Path(out_dir)
    rows = [machine(scan_id, Path(convert_dir), Path(register_dir)) for scan_id in scans["scan_id"]]
    if settings.decisions:
        rows = overrule(rows, settings.decisions)
    counts = Counter(row["verdict"] for row in rows)
    n_decided = sum(row["decided_by"] == "person" for row in rows)
    print(
        f"review: {len(rows)} scans: {', '.join(f'{counts[state]} {state}' for state in STATES)}; "
        f"{n_decided} decided by a person"
    )
    REVIEW.write(pd.DataFrame([{**row["numbers"], **row} for row in rows]).reindex(columns=_names()), _table(out_dir))
    write_text(out_dir / "review.html", page(rows, Path(register_dir), out_dir))
    inputs = {"scans": digest_file(scans_path), "verdicts": digest_file(_table(out_dir))}
    if settings.decisions:
        inputs["decisions"] = digest_file(settings.decisions)
    record(_table(out_dir), step="review", version=VERSION, inputs=inputs, settings=settings)


def machine(scan_id: str, convert_dir: Path, register_dir: Path) -> dict[str, Any]:
    """What the steps found about a scan: the columns of `REVIEW`, `numbers`, and `files` (none: not registered)."""
    told, step = _told(convert_dir / scan_id / f"{scan_id}_convert.json", "convert"), "convert"
    if told["status"] != "fail":
        told, step = names.read_verdict(register_dir / scan_id, scan_id), "register"
    return {
        "scan_id": scan_id,
        "verdict": told["status"],
        "step": step,
        "reasons": told["reason"],
        "decided_by": "qc",
        "numbers": told.get("numbers", {}),
        "files": told.get("files", {}),
    }


def _told(path: Path, step: str) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(
            expected=f"what {step} found about every scan",
            got="no such file",
            where=str(path),
            fix=f"Run `elr-mri {step}` on every batch first.",
        )
    return read_json(path)


def overrule(rows: list[dict[str, Any]], decisions_path: str) -> list[dict[str, Any]]:
    """The rows with a person's decisions in place of the machine's."""
    decisions = DECISIONS.read(decisions_path).fillna("").set_index("scan_id").to_dict("index")
    by_id = {row["scan_id"]: row for row in rows}
    for scan_id, decision in decisions.items():
        if scan_id not in by_id:
            near = difflib.get_close_matches(scan_id, by_id, n=1, cutoff=0.6)
            _refuse(
                decisions_path,
                "scan_ids of the scan table",
                repr(scan_id),
                f"Did you mean {near[0]!r}?" if near else "Correct or remove that row.",
            )
        if decision["verdict"] == "pass" and not by_id[scan_id]["files"]:
            _refuse(
                decisions_path,
                "only registered scans passed",
                f"pass for {scan_id}, which has no registered image ({by_id[scan_id]['reasons']})",
                "Remove that row: there is nothing that could be used.",
            )
    return [_decided(row, decisions.get(row["scan_id"])) for row in rows]


def _decided(row: dict[str, Any], decision: Mapping[str, str] | None) -> dict[str, Any]:
    """A row as a person decided it; the machine's reasons stay behind theirs."""
    if decision is None:
        return row
    word = "confirmed" if decision["verdict"] == row["verdict"] else "overruled"
    told = f"{word} by review: {decision['note'] or 'no note'}"
    if row["reasons"]:
        told += f" (quality control: {row['verdict']}: {row['reasons']})"
    return row | {"verdict": decision["verdict"], "step": "review", "reasons": told, "decided_by": "person"}


def page(rows: list[dict[str, Any]], register_dir: Path, out_dir: Path) -> str:
    """The cohort page: every scan, worst first, with its picture by relative link."""
    shown = [
        {
            **{name: row[name] for name in ("scan_id", "verdict", "step", "reasons", "decided_by")},
            "picture": _picture(row, register_dir, out_dir),
            "numbers": [
                (name, value, outside(name, value)) for name, value in row["numbers"].items() if name in LIMITS
            ],
        }
        for row in sorted(rows, key=_badness)
    ]
    context = {
        "scans": shown,
        "counts": {state: sum(row["verdict"] == state for row in rows) for state in ("fail", "review", "pass")},
        "n_decided": sum(row["decided_by"] == "person" for row in rows),
        "limits": LIMITS,
        "width": picture.SHEET_PIXELS[0],
        "height": picture.SHEET_PIXELS[1],
        "style": Markup(style := (TEMPLATES / "review.css").read_text(encoding="utf-8")),
        "script": Markup(script := (TEMPLATES / "review.js").read_text(encoding="utf-8")),
        # pictures lie beside the page; nothing else is loaded, and only this style and script count
        "policy": f"default-src 'none'; img-src 'self' file:; style-src {pages.hashed(style)}; script-src {pages.hashed(script)}; base-uri 'none'; form-action 'none'",
    }
    return pages.render("review.html.j2", context, [TEMPLATES])


def _badness(row: dict[str, Any]) -> tuple[int, float, str]:
    """Sorts the worst first: by verdict, then by how far the worst number is out of its limits."""
    return -STATES.index(row["verdict"]), slack(row["numbers"]) if row["numbers"] else float("-inf"), row["scan_id"]


def _picture(row: dict[str, Any], register_dir: Path, out_dir: Path) -> str | None:
    """The address of a scan's picture from the page, or None where there is none."""
    name = row["files"].get("picture")
    path = register_dir / row["scan_id"] / (name or "")
    return pages.link(path, out_dir) if path.is_file() else None


def _table(out_dir: Path) -> Path:
    return out_dir / "review.tsv"


def _names() -> list[str]:
    return [column.name for column in REVIEW.columns]


def _refuse(where: str, expected: str, got: str, fix: str) -> None:
    raise BadInput(expected=expected, got=got, where=f"{where} (review.decisions)", fix=fix)
