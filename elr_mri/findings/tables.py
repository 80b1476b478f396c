"""The tidy tables that `evaluate` writes and `report` reads: their columns, validated both ways."""

from __future__ import annotations

from elr_mri.findings.metrics import METRICS
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLITS

_GROUP = (Column("cohort"), Column("split", allowed=SPLITS))
_COUNTS = (
    Column("level", "number", low=0, high=1),
    *(Column(name, "integer", low=1) for name in ("n_scans", "n_subjects", "n_seeds")),
)

#: A score of a model on a group of scans, as share, with its interval at `level`; blank where undefined (see metrics).
RESULTS = Schema(
    name="results",
    version=1,
    key=("model", "cohort", "split", "metric"),
    columns=(
        Column("model"),
        *_GROUP,
        Column("metric", allowed=METRICS),
        *(Column(name, "number", required=False) for name in ("value", "low", "high")),
        *_COUNTS,
    ),
)

#: `model` minus `reference` on the same scans and the same draws.
DIFFERENCES = Schema(
    name="differences",
    version=1,
    key=("model", "reference", "cohort", "split", "metric"),
    columns=(
        Column("model"),
        Column("reference"),
        *_GROUP,
        Column("metric", allowed=METRICS),
        *(Column(name, "number", required=False) for name in ("difference", "low", "high")),
        *_COUNTS,
    ),
)

#: Of the base model and of each of its ablations: what is changed (blank: the base), weights, score, and the difference from the base.
ABLATIONS = Schema(
    name="ablations",
    version=1,
    key=("model", "cohort", "split", "metric"),
    columns=(
        Column("model"),
        Column("changed", required=False),
        Column("n_parameters", "integer", low=1),
        *RESULTS.columns[1:7],
        *(Column(name, "number", required=False) for name in ("difference", "difference_low", "difference_high")),
        *_COUNTS,
    ),
)

CONFUSION = Schema(
    name="confusion",
    version=1,
    key=("model", "seed", "cohort", "split", "diagnosis", "predicted"),
    columns=(
        Column("model"),
        Column("seed", "integer"),
        *_GROUP,
        Column("diagnosis", allowed=CLASSES),
        Column("predicted", allowed=CLASSES),
        Column("n_scans", "integer", low=0),
    ),
)

#: Points of the one-vs-rest ROC curves; `point` counts along a curve.
ROC = Schema(
    name="ROC",
    version=1,
    key=("model", "seed", "cohort", "split", "class", "point"),
    columns=(
        Column("model"),
        Column("seed", "integer"),
        *_GROUP,
        Column("class", allowed=CLASSES),
        Column("point", "integer"),
        Column("false_positive_rate", "number", low=0, high=1),
        Column("true_positive_rate", "number", low=0, high=1),
    ),
)

#: Scans that a model predicted and another did not: scored for none, so that all are compared on the same scans.
LEFT_OUT = Schema(
    name="left-out scans",
    version=1,
    key=("model", "seed", "scan_id"),
    columns=(Column("model"), Column("seed", "integer"), Column("cohort"), Column("split"), Column("scan_id")),
)
