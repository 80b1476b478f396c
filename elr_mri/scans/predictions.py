"""`predictions.tsv`: what a model said about each scan. All science after this table is a function of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLITS

#: Columns of the probabilities and of the logits, in the order of `CLASSES`.
P_COLUMNS = ("p_cn", "p_mci", "p_ad")
Z_COLUMNS = ("z_cn", "z_mci", "z_ad")

#: How far probabilities may be from a sum of 1, and each from the logits' softmax: three decimals are off by up to 0.0015 in their sum.
TOLERANCE = 2e-3
#: The smallest probability of a table without logits that becomes one: what the log-loss of the probabilities reads, too,
#: so that a rounded 0 costs the same before and after temperature scaling.
SMALLEST = np.finfo(float).eps

#: What the name of an ensemble of seeds ends in.
ENSEMBLE = "-ensemble"


def _judged(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """A prediction table with logits, in which every person is in one split, and logits and probabilities say the same.

    A table without logits is given those of its probabilities. "Before" temperature scaling is scored on the ones, "after" on the others.
    """
    _one_split_each(table, where)
    p = table[list(P_COLUMNS)].to_numpy(dtype=float)
    total = p.sum(axis=1)
    fix = "Write them with three decimals or more, in the order CN, MCI, AD."
    _refuse_first(table, np.abs(total - 1) > TOLERANCE, "probabilities that add up to 1", total, where, fix)
    given = [name for name in Z_COLUMNS if name in table]
    if not given:
        logits = centred_logarithms(p, smallest=SMALLEST)
        return table.assign(**dict(zip(Z_COLUMNS, logits.T, strict=True)))
    if len(given) < len(Z_COLUMNS):
        raise BadInput(
            expected=f"all or none of the columns {', '.join(Z_COLUMNS)}",
            got=f"only {', '.join(given)}",
            where=where,
            fix="Add the others, or leave the logits out: they are made of the probabilities then.",
        )
    off = np.abs(_softmax(table[list(Z_COLUMNS)].to_numpy(dtype=float)) - p).max(axis=1)
    expected = "probabilities as the softmax of the logits beside them tells them"
    fix = "Write both from one prediction, or leave the columns of logits out: they are made of the probabilities then."
    _refuse_first(table, off > TOLERANCE, expected, off, where, fix, what="a difference of ")
    return table


def _refuse_first(
    table: pd.DataFrame, bad: np.ndarray, expected: str, values: np.ndarray, where: str, fix: str, *, what: str = ""
) -> None:
    """Refuse a table with `bad` rows, (n,) bool, by the first of them and its value."""
    if bad.any():
        at = int(bad.argmax())
        scan, model, seed = table[["scan_id", "model", "seed"]].iloc[at]
        raise BadInput(
            expected=f"{expected}, within {TOLERANCE:g}",
            got=f"{what}{values[at]:.4g} for {scan} ({model}, seed {seed}), and {int(bad.sum()) - 1} more such rows",
            where=where,
            fix=fix,
        )


def _one_split_each(table: pd.DataFrame, where: str) -> None:
    """Refuse a person with scans in several splits: a test on who was trained on is none."""
    person = ["cohort", "subject_id"]
    places = table[[*person, "split"]].drop_duplicates()
    several = places[places.duplicated(person, keep=False)]
    if several.empty:
        return
    cohort, subject = several.iloc[0][person]
    own = several.loc[(several["cohort"] == cohort) & (several["subject_id"] == subject), "split"]
    raise BadInput(
        expected="all scans of a subject in one split",
        got=f"{subject} of {cohort} in {' and '.join(own)}, and {len(several[person].drop_duplicates()) - 1} more such subjects",
        where=where,
        fix="Divide by subject, as `elr-mri split` does, train and predict again: nothing may be learned from a tested subject.",
    )


PREDICTIONS = Schema(
    name="prediction",
    version=1,
    key=("model", "seed", "scan_id"),
    columns=(
        Column("scan_id"),
        Column("subject_id"),
        Column("cohort"),
        Column("split", allowed=SPLITS),
        Column("model"),
        Column("seed", "integer", low=0),
        Column("diagnosis", allowed=CLASSES),
        *(Column(name, "number", low=0, high=1) for name in P_COLUMNS),
        *(Column(name, "number", may_lack=True) for name in Z_COLUMNS),
    ),
    whole=_judged,
)


def centred_logarithms(probabilities: np.ndarray, *, smallest: float = np.finfo(float).tiny) -> np.ndarray:
    """Logits that tell the same as probabilities, summing to zero over the classes; (n, 3) to (n, 3)."""
    logs = np.log(np.maximum(probabilities, smallest))
    return logs - logs.mean(axis=1, keepdims=True)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, (n, 3) to (n, 3)."""
    with np.errstate(over="ignore"):  # a stranger's 1e308 and -1e308 are as far apart as infinity
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def prediction_table(
    scans: pd.DataFrame, logits: np.ndarray, *, model: str, seed: int, raw: bool = False
) -> pd.DataFrame:
    """The prediction table of one model.

    Parameters
    ----------
    scans : DataFrame
        Rows with scan_id, subject_id, cohort, split and diagnosis.
    logits : (n_scans, 3) float
        In the order CN, MCI, AD. The probabilities are their softmax. Stored are the logits less their mean, so that a model that
        only has probabilities (log p) writes the same kind of column.
    raw : bool
        Store the logits as they are: a network's own, which the micro-AUC on logits of the published code pools over scans.
    """
    logits = np.asarray(logits, dtype=float)
    centred = logits - logits.mean(axis=1, keepdims=True)
    table = scans[["scan_id", "subject_id", "cohort", "split", "diagnosis"]].reset_index(drop=True)
    table = table.assign(model=model, seed=seed)
    table[list(P_COLUMNS)] = _softmax(centred)
    table[list(Z_COLUMNS)] = logits if raw else centred
    return PREDICTIONS.validate(table, where=f"predictions of {model}")


def ensembles(predictions: pd.DataFrame) -> pd.DataFrame:
    """The prediction tables of what several seeds say together: the mean of their probabilities.

    Deep ensembles (Lakshminarayanan et al., NeurIPS 2017). A model trained with one seed has none. The ensemble of model m
    is named `m-ensemble` and has seed 0; a scan takes part that every seed predicted. Its logits are the centred log-probabilities.
    """
    tables = [predictions.iloc[:0]]
    for model, rows in predictions.groupby("model", sort=False):
        n_seeds = rows["seed"].nunique()
        by_scan = rows.groupby("scan_id", sort=False)
        rows = rows[by_scan["seed"].transform("nunique") == n_seeds]
        if n_seeds < 2 or rows.empty:
            continue
        scans = rows.drop_duplicates("scan_id")
        means = rows.groupby("scan_id", sort=False)[list(P_COLUMNS)].mean().to_numpy(dtype=float)
        logits = np.log(np.maximum(means, np.finfo(float).tiny))
        tables.append(prediction_table(scans, logits, model=f"{model}{ENSEMBLE}", seed=0))
    return pd.concat(tables, ignore_index=True)
