"""Who is right: the true label of every scan, where somebody knows it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.cohort import session_id

COLUMNS = ("cohort", "subject", "months", "true_label")


def read_truth(path: Path | str, scans: pd.DataFrame) -> pd.Series:
    """The true diagnosis of each scan, by scan_id.

    Parameters
    ----------
    path : path
        The phantom's `truth/visits.tsv`, or a table like it: cohort, subject (as its download names it, or without signs), months, true_label.
    scans : DataFrame
        scan_id, cohort, subject_id and session_id of the scans asked for; one without a truth is refused.
    """
    table = pd.read_csv(path, sep="\t", dtype={"subject": str})
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        raise BadInput(
            expected=f"columns {', '.join(COLUMNS)}",
            got=f"no {lacking[0]}",
            where=str(path),
            fix="Pass the phantom's truth/visits.tsv, or a table like it.",
        )
    keys = zip(table["cohort"], table["subject"].map(_bare), table["months"].map(session_id), strict=True)
    true = dict(zip(keys, table["true_label"], strict=True))
    own = zip(scans["cohort"], scans["subject_id"].map(_bare), scans["session_id"], strict=True)
    told = pd.Series([true.get(key) for key in own], index=scans["scan_id"].to_numpy(), dtype=object)
    if told.isna().any():
        raise BadInput(
            expected="a true label for every scan",
            got=f"none for {told.index[told.isna()][0]} and {int(told.isna().sum()) - 1} more",
            where=str(path),
            fix="Pass the truth of this very study.",
        )
    return told


def _bare(subject: str) -> str:
    """A subject's id with letters and digits alone, without `sub-` and the cohort's name in front.

    >>> _bare("067_S_0001"), _bare("sub-ADNI067S0001"), _bare("NACC000012")
    ('067S0001', '067S0001', '000012')
    """
    letters = "".join(sign for sign in subject.removeprefix("sub-") if sign.isalnum())
    return letters.removeprefix("ADNI").removeprefix("NACC")
