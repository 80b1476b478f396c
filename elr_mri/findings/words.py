"""What the numbers mean, in plain sentences, made from the tables of `evaluate`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elr_mri import config
from elr_mri.findings.metrics import CHANCE
from elr_mri.findings.style import group_title
from elr_mri.scans.table import CLASSES

#: The score that the sentences are about: not moved by how common each class is.
LEAD = "balanced_accuracy"


def percent(share: float | None, sign: str = "") -> str:
    """One share in percent, with a true minus, and no sign on a zero; a dash where it is undefined, as NaN or, from JSON, None."""
    if share is None or share != share:
        return "–"
    rounded = round(100 * share, 1)
    return f"{rounded:{sign}.1f}".replace("-", "−") if rounded else "0.0"


def against(differences: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The differences of every other model from `reference`, whichever of the two was named first."""
    direct = differences[differences["reference"] == reference]
    turned = differences[differences["model"] == reference]
    turned = turned.assign(
        model=turned["reference"],
        reference=reference,
        difference=-turned["difference"],
        low=-turned["high"],
        high=-turned["low"],
    )
    return pd.concat([turned, direct], ignore_index=True)


def guessing(results: pd.DataFrame, cohort: str, split: str) -> float:
    """The balanced accuracy of someone who looks at no scan of a group: one over the classes that its scans have.

    It is the mean of the sensitivities of those, so that naming one of them always reaches as much. A class is absent whose sensitivity is blank
    in the table of results; where the table holds none, all three count as present.
    """
    rows = results[(results["cohort"] == cohort) & (results["split"] == split)]
    own = [rows.loc[rows["metric"] == f"sensitivity_{name.lower()}", "value"] for name in CLASSES]
    n = sum(bool(values.notna().any()) for values in own if len(values))
    return 1 / n if n else CHANCE[LEAD]


def guessing_note(results: pd.DataFrame) -> str:
    """What guessing scores in the tables of scores, with the groups in which a class is absent."""
    unseen = results[results["split"].isin(("test", "external"))].drop_duplicates(["cohort", "split"])
    shares = {
        group_title(row.cohort, row.split): guessing(results, row.cohort, row.split) for row in unseen.itertuples()
    }
    odd = [f"{percent(share)} in {title}" for title, share in shares.items() if share != CHANCE[LEAD]]
    more = f" Where not every class occurs, balanced accuracy by guessing is higher: {', '.join(odd)}." if odd else ""
    return f"Guessing scores {percent(CHANCE[LEAD])} in balanced accuracy and 50 in every AUC.{more}"


def meaning(results: pd.DataFrame, differences: pd.DataFrame, reference: str) -> list[tuple[str, list[str]]]:
    """For each unseen group its title and the sentences that say how sure its numbers are."""
    versus = against(differences, reference)
    versus = versus[versus["metric"] == LEAD]
    rows = results[(results["metric"] == LEAD) & results["split"].isin(("test", "external"))].dropna(subset=["value"])
    said = []
    for (cohort, split), scores in rows.groupby(["cohort", "split"], sort=False):
        here = versus[(versus["cohort"] == cohort) & (versus["split"] == split)]
        said.append(
            (
                group_title(cohort, split),
                _of_scores(scores, guessing(results, cohort, split))
                + (_of_differences(here, reference) if len(here) else []),
            )
        )
    return said


def caution(level: float, n_pairs: int) -> str:
    """Why not to make much of one difference among many."""
    return (
        f"The table compares {n_pairs} pairs, each in several scores. About one {100 * level:g} % interval in "
        f"{1 / (1 - level):.0f} misses the truth by chance alone, so a single difference whose interval just clears "
        "zero is a hint, not a finding."
    )


def how_sure(best: pd.Series) -> str:
    """What the interval of a score says, as the end of a sentence."""
    low, high, n = best["low"], best["high"], f"{best['n_subjects']} subject{'s' if best['n_subjects'] != 1 else ''}"
    if low != low:
        return "of too few subjects for an interval"
    if low == high:
        return f"the same whichever of these {n} are drawn, which cannot tell how sure that is"
    return f"and with {n} the truth may lie anywhere from {percent(low)} to {percent(high)} %"


def _of_scores(rows: pd.DataFrame, guess: float) -> list[str]:
    """Who leads, how wide its interval is, and who beats guessing."""
    best = rows.loc[rows["value"].idxmax()]
    clear = rows[rows["low"] > guess]
    return [
        f"The highest balanced accuracy is that of {best['model']}: {percent(best['value'])} %, {how_sure(best)}."
        + (f" Being the highest of {len(rows)} is partly luck." if len(rows) > 1 else ""),
        f"Guessing would score {100 * guess:.1f} %. By their whole interval, {_who(clear, rows)} above that.",
    ]


def _of_differences(versus: pd.DataFrame, reference: str) -> list[str]:
    """Who is better or worse than the reference method, and how large a difference would have to be."""
    better, worse = versus[versus["low"] > 0], versus[versus["high"] < 0]
    half = 100 * float((versus["high"] - versus["low"]).astype(float).median()) / 2
    seen = "" if np.isnan(half) else f" Here a difference must exceed about {half:.0f} points to be seen."
    open_ = len(versus) - len(better) - len(worse)
    return [
        f"Compared with {reference} on the same scans, {_who(better, versus)} better and {_who(worse, versus)} worse "
        f"by the whole interval; {open_ or 'none'} cannot be told from it.{seen}",
    ]


def _who(some: pd.DataFrame, among: pd.DataFrame) -> str:
    """`none of 6 methods is`, `1 of 6 methods (wide) is`, `all 6 methods are`."""
    if len(some) == len(among) > 1:
        return f"all {len(among)} methods are"
    names = f" ({', '.join(some['model'])})" if len(some) else ""
    return f"{len(some) or 'none'} of {len(among)} methods{names} {'is' if len(some) < 2 else 'are'}"


_SOURCES = {
    "registered": "The volumes are measured by this pipeline: the template's regions carried into each scan by registration.",
    "fusion": "The volumes are measured by this pipeline: manual labels of other people’s scans, fused on each scan.",
    "freesurfer": "The volumes are FreeSurfer's, read from its output, not measured by this pipeline.",
    "synthseg": "The volumes are SynthSeg's, read from its output, not measured by this pipeline.",
    "cohort": "The volumes are those of the cohorts' own tables, not measured by this pipeline.",
}


def volume_source(volumes: pd.DataFrame) -> list[str]:
    """Where the volumes come from, and what must not be compared with them."""
    said = [_SOURCES.get(source, f"Source of volumes: {source}.") for source in sorted(set(volumes["source"]))]
    if (volumes["source"] == "cohort").any() and volumes["cohort"].nunique() > 1:
        said.append(
            "Each cohort measured them with its own program (ADNIMERGE: FreeSurfer; NACC: its imaging centres'), so that a "
            "difference between cohorts may be one between programs."
        )
    return said


def phantom_facts(phantom: config.Phantom) -> list[str]:
    """What a reader must know of a synthetic study before any number."""
    scale = phantom.effect_scale
    strength = (
        f"a planted disease effect of {scale:g} × the literature’s sizes" if scale else "no disease effect at all"
    )
    return [
        f"Every scan is computed, with {strength} (effect_scale {scale:g}).",
        f"Free anatomical variability {phantom.variability_mm:g} mm (variability_mm); "
        f"{100 * phantom.wrong_label_share:g} % of the labels are wrong on purpose (wrong_label_share).",
        f"{phantom.n_subjects} subjects and {phantom.n_external} external ones, seed {phantom.seed}.",
        "The numbers show whether the pipeline works. They say nothing about patients, nor how well "
        f"{', '.join(CLASSES)} can be told apart in people.",
    ]
