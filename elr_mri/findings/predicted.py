"""The prediction tables as groups of scans: one cohort and split, and what every model and seed said of its scans.

All models are compared on the same scans: those that every model predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.predictions import ENSEMBLE, P_COLUMNS, PREDICTIONS, Z_COLUMNS, centred_logarithms, ensembles
from elr_mri.scans.table import CLASSES, SPLITS

#: The splits of the main table: subjects that no training or choice has seen.
UNSEEN = ("test", "external")


@dataclass(frozen=True)
class Group:
    """The scans of one cohort and split, and what every (model, seed) said about them, in the same scan order."""

    cohort: str
    split: str
    subjects: np.ndarray  # (n_scans,) str
    labels: np.ndarray  # (n_scans,) int
    predictions: dict[tuple[str, int], np.ndarray]  # (n_scans, 3) probabilities
    logits: dict[tuple[str, int], np.ndarray]  # (n_scans, 3)

    def seeds_of(self, model: str) -> list[int]:
        """Positions of a model's seeds in `predictions`."""
        return [position for position, (name, _) in enumerate(self.predictions) if name == model]

    @property
    def models(self) -> list[str]:
        """Models in the order in which their tables were given."""
        return list(dict.fromkeys(name for name, _ in self.predictions))

    @property
    def place(self) -> dict[str, str]:
        """The two columns that name this group in every table."""
        return {"cohort": self.cohort, "split": self.split}

    @property
    def n_subjects(self) -> int:
        """How many people the scans are of."""
        return len(np.unique(self.subjects))


def read_predictions(paths: list[Path]) -> pd.DataFrame:
    """All prediction tables as one; refuses tables that disagree about a scan's subject, split or diagnosis, or about a subject's split."""
    if not paths:
        raise BadInput(
            expected="at least one prediction table", got="none", where="evaluate", fix="Name predictions.tsv files."
        )
    together = pd.concat([PREDICTIONS.read(path) for path in paths], ignore_index=True)
    where = ", ".join(map(str, paths))
    facts = together[["scan_id", "subject_id", "cohort", "split", "diagnosis"]].drop_duplicates()
    if (twice := facts["scan_id"].duplicated()).any():
        raise BadInput(
            expected="one subject, split and diagnosis per scan in every prediction table",
            got=f"two for {facts.loc[twice, 'scan_id'].iloc[0]}",
            where=where,
            fix="Predict again with the scan table and split in use.",
        )
    return _with_ensembles(PREDICTIONS.validate(together, where=where))


def _with_ensembles(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions, and those of each model's seeds together, where it has several and no table holds them."""
    known = set(predictions["model"])
    more = ensembles(predictions[~(predictions["model"] + ENSEMBLE).isin(known)])
    return pd.concat([predictions, more], ignore_index=True)


def common_scans(predictions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the scans that every model predicted, and the other rows."""
    n_models = len(predictions[["model", "seed"]].drop_duplicates())
    everywhere = predictions.groupby("scan_id")["scan_id"].transform("size") == n_models
    if not everywhere.any():
        raise BadInput(
            expected="scans that every model predicted",
            got="none in common",
            where="the prediction tables",
            fix="Predict the same scans with every model.",
        )
    return predictions[everywhere], predictions.loc[~everywhere]


def groups_of(predictions: pd.DataFrame) -> Iterator[Group]:
    """The groups in the order of the splits, then of the cohorts' names; every model must hold every scan."""
    models = list(predictions[["model", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    for split in SPLITS:
        for cohort, rows in predictions[predictions["split"] == split].groupby("cohort"):
            tables = {
                (m, int(s)): rows[(rows["model"] == m) & (rows["seed"] == s)].sort_values("scan_id") for m, s in models
            }
            first = next(iter(tables.values()))
            yield Group(
                cohort=str(cohort),
                split=split,
                subjects=first["subject_id"].to_numpy(),
                labels=first["diagnosis"].map(CLASSES.index).to_numpy(dtype=int),
                predictions={name: table[list(P_COLUMNS)].to_numpy(dtype=float) for name, table in tables.items()},
                logits={name: table[list(Z_COLUMNS)].to_numpy(dtype=float) for name, table in tables.items()},
            )


def by_subject(group: Group) -> Group:
    """The group with one row for each subject and diagnosis: the mean probabilities over the subject's scans of that diagnosis.

    Someone whose diagnosis changed thus counts in each class, as in the published counts of subjects; rows of one subject still
    stand or fall together in a bootstrap draw.
    """
    _, person = np.unique(group.subjects, return_inverse=True)
    rows, first, row_of_scan = np.unique(person * len(CLASSES) + group.labels, return_index=True, return_inverse=True)

    def mean(probabilities: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(rows), len(CLASSES)))
        np.add.at(sums, row_of_scan, probabilities)
        return sums / np.bincount(row_of_scan)[:, None]

    predictions = {name: mean(probabilities) for name, probabilities in group.predictions.items()}
    return Group(
        cohort=group.cohort,
        split=group.split,
        subjects=group.subjects[first],
        labels=group.labels[first],
        predictions=predictions,
        logits={name: centred_logarithms(probabilities) for name, probabilities in predictions.items()},
    )
