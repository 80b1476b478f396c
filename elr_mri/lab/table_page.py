"""The comparison on ROI tables as figures, as a findings JSON and in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from elr_mri.config import Noise, Tables
from elr_mri.findings import style
from elr_mri.findings.mislead import FEWEST
from elr_mri.lab.roi import RoiTable
from elr_mri.lab.table_scores import SHOWN
from elr_mri.scans.table import CLASSES

READINGS = {"last": "last epoch", "selected": "selected epoch"}
TITLES = {"test": "test", "external": "external cohort"}
#: What a clean or a wrongly labelled scan is predicted as, by column of the curves: label, and place in the house colours.
_SAID = {"true": ("true class", 2), "given": ("given wrong class", 6), "other": ("another class", 0)}


def draw_accuracies(results: pd.DataFrame, methods: list[str], stem: Path) -> None:
    """Balanced accuracy by share of wrong labels, one line per method; test and external beside each other, one row per reading."""
    splits = [split for split in TITLES if split in set(results["split"])]
    with style.drawing():
        drawn = style.figure(3.4 * len(splits) + 1.6, 5.6)
        axes = drawn.subplots(2, len(splits), sharex=True, sharey=True, squeeze=False)
        for row, (reading, told) in zip(axes, READINGS.items(), strict=True):
            for one, split in zip(row, splits, strict=True):
                part = results[(results["split"] == split) & (results["reading"] == reading)]
                _lines(one, part, methods)
                n = part.iloc[0]
                one.set_title(f"{TITLES[split]}, {told}" + f"\n{n['n_scans']} scans, {n['n_subjects']} subjects")
            row[0].set_ylabel("balanced accuracy, %")
        for one in axes[-1]:
            one.set_xlabel("wrong training labels drawn, %")
        drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
        style.save(drawn, stem)


def _lines(axes, part: pd.DataFrame, methods: list[str]) -> None:
    """One line per method with its intervals, moved sideways a little so that intervals do not cover each other."""
    shares = sorted(part["share"].unique())
    step = 100 * (shares[1] - shares[0]) / 25 if len(shares) > 1 else 1
    for place, method in enumerate(methods):
        lines = part[part["method"] == method].sort_values("share")
        x = 100 * lines["share"] + step * (place - (len(methods) - 1) / 2)
        y, low, high = (100 * lines[name] for name in ("balanced_accuracy", "low", "high"))
        look = style.model_style(methods, method)
        # Where every draw scores the same, low and high may miss the value by a rounding error.
        axes.errorbar(
            x,
            y,
            [(y - low).clip(lower=0), (high - y).clip(lower=0)],
            label=method,
            markersize=4,
            elinewidth=0.9,
            capsize=2,
            **look,
        )
    axes.axhline(100 / 3, color=style.QUIET, linewidth=0.8, linestyle=":")
    axes.annotate(
        "chance",
        (1, 100 / 3),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7,
        color=style.QUIET,
    )
    axes.set_xticks([100 * share for share in shares])


def draw_memorization(curves: pd.DataFrame, methods: list[str], stem: Path) -> None:
    """What each method says of clean (upper rows) and wrongly labelled training scans (lower rows), epoch by epoch, at the largest share."""
    part = curves[curves["share"] == curves["share"].max()]
    with style.drawing():
        drawn = style.figure(2.3 * len(methods) + 1.2, 4.4)
        axes = drawn.subplots(2, len(methods), sharey=True, squeeze=False)
        for column, method in zip(axes.T, methods, strict=True):
            for one, group in zip(column, ("clean", "wrong"), strict=True):
                lines = part[(part["method"] == method) & (part["group"] == group)]
                for name, (label, place) in _SAID.items():
                    if name == "given" and group == "clean":
                        continue
                    colour, _, dash = style.MODEL_STYLES[place]
                    one.plot(lines["epoch"], 100 * lines[name], color=colour, linestyle=dash, label=label)
                one.set_ylim(0, 100)
            column[0].set_title(method)
            column[1].set_xlabel("epoch")
        axes[0, 0].set_ylabel("clean scans\npredicted as, %")
        axes[1, 0].set_ylabel("wrongly labelled scans\npredicted as, %")
        title = f"{100 * part['share'].iloc[0]:g} % wrong labels drawn"
        drawn.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside right upper", title=title)
        style.save(drawn, stem)


def findings(
    results: pd.DataFrame, differences: pd.DataFrame, trials: pd.DataFrame, table: RoiTable, *, synthetic: bool
) -> dict[str, Any]:
    """All that was found, as plain numbers (shares, not percent); blanks are null."""
    return {
        "n_regions": len(table.regions),
        "left_out": table.left_out,
        "synthetic": synthetic,
        "chosen": _plain(trials[trials["chosen"] == 1].drop(columns="chosen")),
        "results": _plain(results),
        "differences": _plain(differences),
    }


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def summary(
    results: pd.DataFrame,
    differences: pd.DataFrame,
    trials: pd.DataFrame,
    table: RoiTable,
    settings: Tables,
    *,
    noise: Noise,
    whose: str,
) -> str:
    """The comparison in plain words: what was compared, what helped, and what did not; `whose` the scans are."""
    n, covers = len(settings.seeds), results["covers"].iloc[0]
    over = "subjects alone" if covers == "subjects" else covers
    alike = "validation labels made wrong alike" if "val" in noise.splits else "true validation labels"
    lines = [
        "# Wrong labels on tables of ROI volumes",
        "",
        f"Scans of {whose}, {len(table.regions)} regions each; a small network learns CN, MCI and AD. {_made_wrong(noise)} "
        f"Figures are balanced accuracies by true labels in percent, {f'means over {n} seeds' if n > 1 else 'of one seed'}, with {100 * settings.level:g} % intervals over "
        f"{over}. Settings were chosen on {alike}, with as many trials for each method; no test or external scan took part.",
        "",
    ]
    for split in TITLES:
        for reading, told in READINGS.items():
            part = results[(results["split"] == split) & (results["reading"] == reading)]
            if len(part):
                lines += [f"## {TITLES[split].capitalize()}, {told}", "", *_table(part), ""]
    lines += ["## Which classes are said", "", *_recalls(results), ""]
    lines += ["## What was gained", "", *_gains(differences), ""]
    lines += ["## Settings that were chosen", ""]
    for row in trials[trials["chosen"] == 1].itertuples():
        lines.append(f"- {100 * row.share:g} % wrong, {row.method}: {row.keys or 'as it is'}")
    return "\n".join(lines) + "\n"


def _made_wrong(noise: Noise) -> str:
    """Which labels are made wrong, and how, in a sentence."""
    if not noise.splits:
        return "No label was made wrong."
    moves = ", ".join(f"{CLASSES[a]} became {CLASSES[b]}" for a, b in noise.map.items())
    became = {
        "symmetric": "drawn anew from the three classes, the true one among them",
        "others": "drawn anew from the two other classes",
        "asymmetric": f"moved to another class ({moves})",
        "adjacent": "moved to a neighbouring class",
    }[noise.kind]
    splits = " and ".join({"train": "training", "val": "validation"}[split] for split in noise.splits)
    per = ", all scans of a subject together" if noise.per == "subject" else ""
    return f"Of the {splits} labels a share was {became}{per}."


def _table(part: pd.DataFrame) -> list[str]:
    """One row per method, one column per share."""
    shares = sorted(part["share"].unique())
    lines = ["| method | " + " | ".join(f"{100 * s:g} % wrong" for s in shares) + " |", "|---|" + "---|" * len(shares)]
    for method, rows in part.groupby("method", sort=False):
        at = rows.set_index("share")
        cells = [
            f"{100 * r['balanced_accuracy']:.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})"
            for r in (at.loc[s] for s in shares)
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def _recalls(results: pd.DataFrame) -> list[str]:
    """Recalls after the last epoch: a network that never says MCI may still have a high balanced accuracy."""
    part = results[results["reading"] == "last"]
    mean = ", mean over seeds" if (part["n_seeds"] > 1).any() else ""
    lines = [f"Recall of CN / MCI / AD after the last epoch{mean}, percent; – where there are no such scans."]
    for split, rows in part.groupby("split", sort=False):
        shares = sorted(rows["share"].unique())
        lines += ["", f"| {TITLES[split]} | " + " | ".join(f"{100 * s:g} % wrong" for s in shares) + " |"]
        lines.append("|---|" + "---|" * len(shares))
        for method, own in rows.groupby("method", sort=False):
            at = own.set_index("share")
            told = {s: [at.loc[s, f"recall_{c.lower()}"] for c in CLASSES] for s in shares}
            cells = [" / ".join("–" if pd.isna(r) else f"{100 * r:.0f}" for r in told[s]) for s in shares]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def _gains(differences: pd.DataFrame) -> list[str]:
    """The differences by what they show. Of those asked in advance a method helps or harms where Holm's p-value is below 0.05, elsewhere nothing is shown;
    the others have their interval only, and with too few seeds all have. Of the selected epoch what shows nothing is only counted."""
    enough, asked = differences["n_seeds"] >= FEWEST, differences["p_holm"].notna()
    shown = enough & asked & (differences["p_holm"] < SHOWN)
    kinds = {
        "Helps": shown & (differences["difference"] > 0),
        "Harms": shown & (differences["difference"] < 0),
        "Not shown to help or to harm": enough & asked & ~shown,
        "No verdict, intervals only": ~(enough & asked),
    }
    lines = [
        f"{len(differences)} differences in points of balanced accuracy, paired by subject and seed. Asked in advance: does a method whose settings were chosen do better with wrong "
        f"labels than the first one, with chosen settings or untuned? It is shown to help or harm where Holm's p-value over these {int(asked.sum())} (of each reading by itself) is below {SHOWN:g}."
    ]
    lines += [] if enough.all() else ["", f"With fewer than {FEWEST} seeds there is no verdict: what one seed does cannot be told from what the method does."]  # fmt: skip
    for kind, mine in kinds.items():
        rows = differences[mine & (shown | (differences["reading"] == "last"))]
        if enough.any() or mine.any():
            lines += ["", f"### {kind} ({int(mine.sum())})", ""]
            lines += [_difference(row) for row in rows.sort_values(["share", "split", "reading"], kind="stable").itertuples()] or [
                "- none of the last epoch" if mine.any() else "- none"
            ]  # fmt: skip
    return [*lines, "", "All of them stand in `differences.tsv`."]


def _difference(row) -> str:
    """A difference as a line of a list."""
    p = f"; Holm p {row.p_holm:.3f}" if row.n_seeds >= FEWEST and pd.notna(row.p_holm) else ""
    return (
        f"- {100 * row.share:g} % wrong, {TITLES[row.split]}, {READINGS[row.reading]}: {row.method} − {row.reference} {100 * row.difference:+.1f} "
        f"({100 * row.low:+.1f} to {100 * row.high:+.1f}{p})"
    )
