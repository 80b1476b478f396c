"""The comparisons that the report makes: each other method with its reference, on the same scans, as one family.

Of many comparisons some come out by chance. The family is fixed in advance: every other method, every group of unseen scans, one
score, the balanced accuracy. Holm's adjusted p-values hold over all of it, whatever the scores have to do with each other.
"""

from __future__ import annotations

import pandas as pd

from elr_mri.findings.bootstrap import holm
from elr_mri.findings.predicted import UNSEEN
from elr_mri.findings.style import group_title
from elr_mri.findings.tables import COMPARISONS
from elr_mri.findings.words import LEAD, against

#: Below this an adjusted p-value counts as a difference.
SHOWN = 0.05


def compared(differences: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The table `COMPARISONS` from that of the differences; empty where the reference was not scored beside another."""
    versus = against(differences, reference)
    family = versus[(versus["metric"] == LEAD) & versus["split"].isin(UNSEEN)].reset_index(drop=True)
    family["p_holm"] = float("nan")
    tested = family["p"].notna()
    family.loc[tested, "p_holm"] = holm(family.loc[tested, "p"].to_numpy(dtype=float))
    return family[[column.name for column in COMPARISONS.columns]]


def sentences(family: pd.DataFrame, reference: str) -> list[str]:
    """What the family as a whole says."""
    family = family[family["p"].notna()]
    if family.empty:
        return []
    shown = family[family["p_holm"] < SHOWN]
    alone = family[family["p"] < SHOWN]
    said = "none stands" if shown.empty else f"{len(shown)} of {len(family)} {'stands' if len(shown) == 1 else 'stand'}"
    return [
        f"{len(family)} comparisons with {reference} in balanced accuracy were asked together, over all methods and groups. Taken one by one, "
        f"{len(alone) or 'none'} would pass at p < {SHOWN:g}; with Holm’s correction for asking {len(family)} times, {said}."
    ]


def texts(family: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """Of each (group's title, method) the p-value alone and with Holm's correction."""
    return {
        (group_title(row.cohort, row.split), row.model): (p_text(row.p), p_text(row.p_holm))
        for row in family.itertuples()
    }


def p_text(p: float) -> str:
    """A p-value as text: `0.03`, `< 0.001`; a dash where there is none."""
    if p != p:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
