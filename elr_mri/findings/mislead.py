"""The report's page on wrong labels: what the noisy-label experiment and the label audit found, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elr_mri import pages
from elr_mri.findings.style import group_title
from elr_mri.findings.words import percent
from elr_mri.provenance import read_json

#: How a method is named to a reader; others by their own names.
NAMES = {"ce": "cross-entropy", "elr": "ELR", "elr-plus": "ELR+", "sop": "SOP", "gce": "generalised cross-entropy"}


def read(lab_dir: Path | None, audit_dir: Path | None, page_folder: Path) -> dict[str, Any] | None:
    """What the page says of wrong labels; None where neither experiment nor audit was made.

    Parameters
    ----------
    lab_dir : path or None
        The folder of `lab mri`: findings.json, figures.
    audit_dir : path or None
        The folder of `lab audit`: audit.json, audit.html.
    page_folder : path
        Where the report lies, which links to the audit's page.
    """
    if lab_dir is None and audit_dir is None:
        return None
    told: dict[str, Any] = {
        "facts": None,
        "memorized": [],
        "gained": [],
        "stems": {},
        "audit": None,
        "audit_link": None,
    }
    if lab_dir is not None:
        facts = read_json(lab_dir / "findings.json")
        told |= {"facts": facts, "memorized": memorized(facts), "gained": gained(facts)}
        stems = {name: lab_dir / "figures" / name for name in ("memorization", "gradients", "scores")}
        told["stems"] = {f"lab_{name}": stem for name, stem in stems.items() if stem.with_name(f"{name}.png").is_file()}
    if audit_dir is not None:
        told |= {
            "audit": read_json(audit_dir / "audit.json"),
            "audit_link": pages.link(audit_dir / "audit.html", page_folder),
        }
    return told


def named(method: str) -> str:
    """A method's name in a sentence."""
    return NAMES.get(method, method)


def memorized(facts: dict[str, Any]) -> list[str]:
    """A sentence for each method: what it says of the wrongly labelled training scans at the end."""
    return [
        f"With {named(method)}, the network at the end gives {percent(shares['given'])} % of the wrongly labelled training scans their wrong label back and "
        f"{percent(shares['true'])} % their true class."
        for method, shares in facts["last_epoch_of_wrong_labels"].items()
    ]


def gained(facts: dict[str, Any]) -> list[str]:
    """A sentence for each group of unseen scans and method: the difference in balanced accuracy, and whether it can be told from zero."""
    lines = []
    for row in facts["balanced_accuracy_gained"]:
        verdict = (
            "more" if row["low"] > 0 else "less" if row["high"] < 0 else "a difference that cannot be told from none"
        )
        points = f"{percent(row['difference'], sign='+')} points ({percent(row['low'], sign='+')} to {percent(row['high'], sign='+')})"
        lines.append(
            f"{group_title(row['cohort'], row['split'])}: {named(row['model'])} against {named(row['reference'])} in balanced accuracy {points}, {verdict}."
        )
    return lines
