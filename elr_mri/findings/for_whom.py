"""What the report says of groups of people, of other scans than those of training, and of the time from MCI to AD.

`read` takes the tables of `subgroups`, `shift` and `progression`, `draw` makes their figures, `told` their words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from elr_mri.findings import whom_charts
from elr_mri.findings.figures import Pictures
from elr_mri.findings.privacy import Names
from elr_mri.findings.progression import DETAILS, FOLLOWED, PROGRESSION, STATES, SURVIVAL
from elr_mri.findings.shift import SHIFT, TOGETHER
from elr_mri.findings.style import group_title
from elr_mri.findings.subgroups import EVERYONE, SUBGROUPS, UNKNOWN
from elr_mri.findings.words import percent

#: Names that are listed in one sentence; more are counted.
MAX_NAMES = 12
METRIC_NAMES = {"balanced_accuracy": "balanced accuracy", "macro_auc": "macro-AUC", "auc_cn": "AUC of CN", "auc_mci": "AUC of MCI", "auc_ad": "AUC of AD"}  # fmt: skip


class Tables(NamedTuple):
    """What was given; None where nothing was."""

    subgroups: pd.DataFrame | None
    shift: pd.DataFrame | None
    progression: pd.DataFrame | None
    survival: pd.DataFrame | None
    followed: pd.DataFrame | None


def read(subgroups_path: Path | None, shift_path: Path | None, progression_dir: Path | None, called: Names) -> Tables:
    """The tables that are there; outside the house sites have numbers in place of their names."""
    pairs = ((PROGRESSION, "progression"), (SURVIVAL, "survival"), (FOLLOWED, "followed"))
    return Tables(
        _numbered(SUBGROUPS.read(subgroups_path), called) if subgroups_path else None,
        SHIFT.read(shift_path) if shift_path else None,
        *(schema.read(progression_dir / f"{name}.tsv") if progression_dir else None for schema, name in pairs),
    )


def _numbered(table: pd.DataFrame, called: Names) -> pd.DataFrame:
    """The table with sites as they may be called."""
    sites = table["factor"] == "site"
    codes = called.numbered(set(table.loc[sites, "group"]) - {UNKNOWN})
    return table.assign(group=table["group"].where(~sites, table["group"].replace(codes)))


def draw(pictures: Pictures, tables: Tables) -> None:
    """`subgroups`, `shift` and `progression`, each where there is anything to draw."""
    if tables.subgroups is not None and tables.subgroups["value"].notna().any():
        pictures.add("subgroups", whom_charts.subgroup_forest(lead(tables.subgroups)))
    if tables.shift is not None and tables.shift["low"].notna().any():
        pictures.add("shift", whom_charts.love_plot(tables.shift[tables.shift["quantity"] != TOGETHER]))
    if tables.survival is not None and len(tables.survival):
        pictures.add("progression", whom_charts.survival_curves(tables.survival))


def told(tables: Tables) -> dict[str, Any]:
    """The sections' contents by id; None for a section whose table was not given."""
    return {
        "subgroups": None if tables.subgroups is None else _subgroups(tables.subgroups),
        "shift": None if tables.shift is None else [_shifted(*group) for group in _by_place(tables.shift)],
        "progression": None if tables.progression is None else _progression(tables),
    }


def lead(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of the first metric."""
    return table[table["metric"] == table["metric"].iloc[0]] if len(table) else table


def _by_place(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (cohort, split), rows in table.groupby(["cohort", "split"], sort=False):
        yield group_title(cohort, split), rows


def _subgroups(table: pd.DataFrame) -> dict[str, Any]:
    one, judged = lead(table), table[table["flagged"].notna()]
    level = float(table["level"].iloc[0]) if len(table) else float("nan")
    return {
        "models": list(dict.fromkeys(table["model"])),
        "metric": METRIC_NAMES.get(one["metric"].iloc[0], one["metric"].iloc[0]) if len(one) else "",
        "level": f"{100 * level:g}",
        "groups": [{"title": title, **_rows(rows)} for title, rows in _by_place(one)],
        "verdict": _verdict(judged, one),
        "flags": [_flag(row) for row in judged[judged["flagged"] == "yes"].itertuples()],
    }


def _rows(rows: pd.DataFrame) -> dict[str, Any]:
    """The scored groups as lines of a table, and who was not scored, by reason."""
    lines = []
    for (factor, group), found in rows.groupby(["factor", "group"], sort=False):
        if found["value"].notna().any() and (found["note"].isna() | (found["note"] == "everyone")).all():
            name = "everyone" if factor == EVERYONE else group
            cells = [_gap_cell(row) for row in found.itertuples()]
            whole = factor != EVERYONE and (found["note"] == "everyone").all()
            lines.append({"factor": factor, "name": name, "n": _count(found["n_subjects"].iloc[0]), "cells": cells, "whole": whole})  # fmt: skip
    left = rows[rows["value"].isna()].drop_duplicates(["factor", "group"])
    out = [
        f"{factor}: {_names(list(found['group']))} ({note})"
        for (factor, note), found in left.groupby(["factor", "note"], sort=False)
    ]
    return {"rows": lines, "not_scored": out}


def _gap_cell(row: Any) -> dict[str, Any]:
    gap = "" if pd.isna(row.gap_low) else f"{percent(row.gap, '+')} ({percent(row.family_low, '+')} to {percent(row.family_high, '+')})"  # fmt: skip
    return {"value": percent(row.value), "interval": f"{percent(row.low)} to {percent(row.high)}", "gap": gap, "flagged": row.flagged == "yes"}  # fmt: skip


def _verdict(judged: pd.DataFrame, one: pd.DataFrame) -> str:
    """What the family of gaps comes to in one or two sentences."""
    if judged.empty:
        return "No group and its others were both large enough to be compared, so nothing can be said about gaps."
    n, flagged = len(judged), int((judged["flagged"] == "yes").sum())
    led = judged[judged["metric"] == one["metric"].iloc[0]]
    half = 100 * float((led["family_high"] - led["family_low"]).median()) / 2
    more = "other " if flagged else ""
    seen = f"{flagged} of {n} gaps {'is' if flagged == 1 else 'are'} larger than chance would make any of them" if flagged else f"None of {n} gaps can be told from chance"  # fmt: skip
    return f"{seen}. That is no proof that there are no {more}gaps: half of those looked at must exceed about {half:.0f} points to be seen."


def _flag(row: Any) -> str:
    worse = "less" if row.gap < 0 else "more"
    return (
        f"{row.model}, {group_title(row.cohort, row.split)}: {row.factor}, {row.group}: {percent(abs(row.gap))} points {worse} in "
        f"{METRIC_NAMES.get(row.metric, row.metric)} than the others ({percent(row.family_low, '+')} to {percent(row.family_high, '+')})."
    )


def _shifted(title: str, rows: pd.DataFrame) -> dict[str, Any]:
    """One test set against training: a table's lines, and sentences."""
    single, together = rows[rows["quantity"] != TOGETHER], rows[rows["quantity"] == TOGETHER].iloc[0]
    known = single.dropna(subset=["low"])
    clear = known[(known["low"] > 0) | (known["high"] < 0)].sort_values("difference", key=abs, ascending=False)
    level = 100 * float(together["level"])
    sentences = [_told_apart(together)]
    if len(clear):
        names = [f"{r.quantity} ({_signed(r.difference)})" for r in clear.itertuples()]
        sentences.append(f"Of {len(known)} quantities {len(clear)} {'differs' if len(clear) == 1 else 'differ'} by their whole {level:g} % interval: {_names(names)}. About {len(known) * (1 - level / 100):.1f} would do so by chance.")  # fmt: skip
    else:
        sentences.append(f"Of {len(known)} quantities none differs by its whole {level:g} % interval.")
    lines = [
        {
            "kind": r.kind,
            "name": r.quantity,
            "train": _mean(r.mean_train, r.sd_train),
            "there": _mean(r.mean_there, r.sd_there),
            "difference": "–" if pd.isna(r.difference) else _signed(r.difference),
            "interval": "" if pd.isna(r.low) else f"{_signed(r.low)} to {_signed(r.high)}",
            "note": "" if pd.isna(r.note) else r.note,
        }
        for r in single.itertuples()
    ]
    return {"title": title, "sentences": sentences, "rows": lines}


def _told_apart(row: pd.Series) -> str:
    """What the two-sample AUC means."""
    if pd.isna(row["difference"]):
        return (
            f"Whether a scan’s origin can be told from age, sex, volumes and intensities was not tried: {row['note']}."
        )
    seen = row["difference"] > row["chance"]
    meaning = (
        "so the scans differ from those of training, and scores on one need not hold on the other"
        if seen
        else "so no difference can be seen; one that these numbers do not hold may be there"
    )
    return (
        f"Shown a scan of each, a classifier names the one that is not from training in {percent(row['difference'])} % of the pairs, by age, sex, volumes and intensities "
        f"alone (two-sample AUC; 50 %: guessing). By chance it would stay below {percent(row['chance'])} % {100 * row['level']:g} times in a hundred, {meaning}."
    )


def _progression(tables: Tables) -> dict[str, Any]:
    groups = []
    for title, rows in _by_place(tables.progression):
        place = rows.iloc[0]
        counts = tables.followed[(tables.followed["cohort"] == place["cohort"]) & (tables.followed["split"] == place["split"])].set_index("what")["n_subjects"]  # fmt: skip
        lines = []
        for model, found in rows.groupby("model", sort=False):
            by = found.set_index("measure")
            cells = [_ratio(by.loc[m]) if m in by.index else ("–", "") for m in ("hazard_ratio", "hazard_ratio_age")]
            cells += [_share(by.loc["concordance"])]
            cells += [_share(by.loc["concordance_gain"], "+") if "concordance_gain" in by.index else ("", "")]
            lines.append({"name": model, "cells": cells})
        note = rows["note"].dropna()
        reason = note.iloc[0] if rows["value"].isna().all() and len(note) else None
        groups.append({"title": title, "counts": _followed(counts), "rows": lines, "reason": reason})
    level = tables.progression["level"]
    first = next(iter(tables.progression["model"]), "")
    return {"groups": groups, "level": f"{100 * level.iloc[0]:g}" if len(level) else "", "reference": first}


def _followed(counts: pd.Series) -> str:
    """Who was followed and who was not, in one sentence."""
    words = (
        "had no scan with MCI",
        "had AD before the first scan with MCI",
        "had no later diagnosis",
        "came to AD",
        "did not until their last diagnosis",
    )
    said = [f"{_count(counts[state])} {word}" for state, word in zip(STATES, words, strict=True)]
    back, taken = (_count(counts[detail]) for detail in DETAILS)
    first = ", ".join(said[:3])
    return f"{first[0].upper()}{first[1:]}. Followed: {said[3]} ({taken} of them with another diagnosis later), {said[4]} ({back} of them CN by then)."


def _count(n: Any) -> str:
    return "some" if pd.isna(n) else str(int(n))


def _mean(mean: float, sd: float) -> str:
    return "–" if pd.isna(mean) else f"{_digits(mean, 3)} ({_digits(sd, 2)})"


def _digits(value: float, n: int) -> str:
    """A number with `n` significant digits, and all of those before the point."""
    rounded = float(f"{value:.{n}g}")
    return f"{value:,.0f}" if abs(rounded) >= 10**n else f"{rounded:g}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _ratio(row: pd.Series) -> tuple[str, str]:
    return ("–", "") if pd.isna(row["value"]) else (f"{row['value']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}")


def _share(row: pd.Series, sign: str = "") -> tuple[str, str]:
    value, low, high = (percent(float(row[name]), sign) for name in ("value", "low", "high"))
    return value, "" if pd.isna(row["low"]) else f"{low} to {high}"


def _names(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
