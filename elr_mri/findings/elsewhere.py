"""The report on wrong labels beyond the study's scans: a linear model, images, tables of volumes, each in a sentence or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from elr_mri import pages
from elr_mri.errors import BadInput
from elr_mri.findings.mislead import named
from elr_mri.findings.words import percent
from elr_mri.provenance import read_json


def read(folders: Sequence[Path], page_folder: Path) -> list[dict[str, Any]]:
    """What each experiment found: `title`, `lines`, the `scores` of tables, the stem of its figure, and the address of the fuller account.

    Parameters
    ----------
    folders : sequence of path
        Folders of `lab linear`, `lab images` and `lab tables`, by these names.
    page_folder : path
        Where the report lies, which links to them.
    """
    told = []
    for folder in folders:
        if folder.name not in _ROOMS:
            raise BadInput(
                expected=f"a folder of `lab`: {', '.join(_ROOMS)}",
                got=folder.name,
                where=str(folder),
                fix="Give --experiment the folder by that name.",
            )
        title, lines, figure = _ROOMS[folder.name]
        facts = read_json(folder / "findings.json")
        stem = next(
            (s for s in (folder / figure, folder / "figures" / figure) if s.with_name(f"{figure}.png").is_file()), None
        )
        told.append(
            {
                "title": title,
                "name": folder.name,
                "lines": lines(facts),
                "scores": scores(facts) if folder.name == "tables" else None,
                "stem": stem,
                "link": pages.link(folder / "findings.json", page_folder),
            }
        )
    return told


def of_linear(facts: dict[str, Any]) -> list[str]:
    """A line per method: early learning at its height, and what is left of it at the end."""
    if not facts["wrong"]:
        return [
            f"{_first(method)}: no label is wrong; of new examples {percent(moments['end']['new_accuracy'])} % are right after {moments['end']['iteration']:,} iterations."
            for method, moments in facts["methods"].items()
        ]
    return [
        f"{_first(method)}: of {facts['wrong']:,} wrong labels among {facts['examples']:,}, "
        f"{percent(moments['peak']['wrong_predicted_true'])} % are predicted as their true class after {moments['peak']['iteration']} iterations, and "
        f"{percent(moments['end']['wrong_predicted_true'])} % at the end ({moments['end']['iteration']:,}); of new examples {percent(moments['end']['new_accuracy'])} % are right."
        for method, moments in facts["methods"].items()
    ]


def of_images(facts: dict[str, Any]) -> list[str]:
    """A line on the labels, then one per method: the test accuracy that counts, and how many wrong labels were learned by heart."""
    images, seeds = facts["n"]["train"], len(facts["seeds"])
    labels = (
        f"{percent(facts['wrong_share']['train'])} % of their labels really wrong"
        if facts["drawn_share"]["train"]
        else "their labels as they came, of which nobody knows how many are wrong"
    )
    lines = [
        f"{facts['dataset']}: {images:,} training images, {labels}; {facts['epochs']} epochs, {seeds} training{'s' if seeds > 1 else ''} of each method."
    ]
    for method, found in facts["methods"].items():
        line = (
            f"{_first(method)}: {percent(found['test_accuracy'])} % of the test images are right ({found['counted']})"
        )
        if found["wrong_memorized_end"] is not None:
            line += f"; {percent(found['wrong_memorized_end'])} % of the wrong labels are given back"
        lines.append(f"{line}.")
    return lines


def of_tables(facts: dict[str, Any]) -> list[str]:
    """What the numbers of `scores` are."""
    one = facts["results"][0]
    seeds = f"means over {one['n_seeds']} trainings" if one["n_seeds"] > 1 else "one training"
    over = one["covers"] if one["covers"] != "subjects" else "subjects alone"
    return [
        f"A small network learns the class from {facts['n_regions']} regional volumes. Balanced accuracy by true labels after the last epoch, percent: {seeds} of each method, with {100 * one['level']:g} % intervals over {over}."
    ]


def scores(facts: dict[str, Any]) -> dict[str, Any]:
    """The table of `lab tables`: a column for each share of wrong labels, and for each group of unseen scans a row for each method."""
    last = [row for row in facts["results"] if row["reading"] == "last"]
    shares = sorted({row["share"] for row in last})
    groups: dict[str, dict[str, dict[float, dict[str, str]]]] = {}
    for row in last:
        title = (
            f"{_SPLITS.get(row['split'], row['split'])} · {row['n_scans']:,} scans of {row['n_subjects']:,} subjects"
        )
        cells = groups.setdefault(title, {}).setdefault(_as_trained(row["method"]), {})
        cells[row["share"]] = {name: percent(row[name]) for name in ("balanced_accuracy", "low", "high")}
    return {
        "shares": [f"{100 * share:g} % wrong" for share in shares],
        "groups": {
            title: {name: [cells.get(share) for share in shares] for name, cells in methods.items()}
            for title, methods in groups.items()
        },
    }


def _first(method: str) -> str:
    """A method's name at the head of a sentence."""
    name = named(method)
    return name[0].upper() + name[1:]


def _as_trained(method: str) -> str:
    """`ce untuned` in words; its settings are as published, the others' chosen on validation labels made wrong alike."""
    name, _, untuned = method.partition(" ")
    return f"{named(name)} ({untuned or 'tuned'})"


_SPLITS = {"test": "Test", "external": "External cohort"}
#: Of each experiment the title, its lines, and the figure that shows most.
_ROOMS: dict[str, tuple[str, Callable[[dict[str, Any]], list[str]], str]] = {
    "linear": ("A linear model", of_linear, "shares"),
    "images": ("Images", of_images, "memorization"),
    "tables": ("Tables of regional volumes", of_tables, "balanced_accuracy"),
}
