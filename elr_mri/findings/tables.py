"""The tidy tables that `evaluate` writes and `report` reads: their columns, validated both ways."""

from __future__ import annotations

from dataclasses import replace

from elr_mri.findings.metrics import ECE_BINS, ERRORS, METRICS
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLITS

_GROUP = (Column("cohort"), Column("split", allowed=SPLITS))
_P = Column("p", "number", required=False, low=0, high=1)
_COUNTS = (
    Column("level", "number", low=0, high=1),
    *(Column(name, "integer", low=1) for name in ("n_scans", "n_subjects", "n_seeds")),
)

#: A score of a model on a group of scans, as share (log-loss: nats), with its interval at `level`; blank where undefined (see metrics).
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

#: `model` minus `reference` on the same scans and the same draws; `p` is two-sided, of this one comparison.
DIFFERENCES = Schema(
    name="differences",
    version=2,
    key=("model", "reference", "cohort", "split", "metric"),
    columns=(
        Column("model"),
        Column("reference"),
        *_GROUP,
        Column("metric", allowed=METRICS),
        *(Column(name, "number", required=False) for name in ("difference", "low", "high")),
        _P,
        *_COUNTS,
    ),
)

#: The comparisons that the report makes: each other model with its reference, in one score; `p_holm` holds over all of them together.
COMPARISONS = Schema(
    name="comparisons",
    version=1,
    key=DIFFERENCES.key,
    columns=(
        *DIFFERENCES.columns[:9],
        Column("p_holm", "number", required=False, low=0, high=1),
        *_COUNTS,
    ),
)


def _by_row(schema: Schema, name: str) -> Schema:
    """The same table with a row for each subject and diagnosis in place of each scan, counted as `n_rows`."""
    columns = tuple(replace(column, name="n_rows") if column.name == "n_scans" else column for column in schema.columns)
    return replace(schema, name=name, version=1, columns=columns)


#: The same scores and differences by subject: its scans of one diagnosis together count once.
SUBJECTS = _by_row(RESULTS, "subjects")
SUBJECT_DIFFERENCES = _by_row(DIFFERENCES, "subject_differences")

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

#: The states in which probabilities are judged: as predicted, with the logits divided by the temperature, and the second less the first.
STATES = ("before", "after", "difference")

#: The number by which each training's logits are divided, fitted on the validation scans that `n_scans` counts; blank where it could not
#: be, or should be read with care: `note` says why. Log-losses are of those scans.
TEMPERATURES = Schema(
    name="temperatures",
    version=1,
    key=("model", "seed"),
    columns=(
        Column("model"),
        Column("seed", "integer"),
        Column("temperature", "number", required=False, low=0),
        *(Column(name, "integer", low=0) for name in ("n_scans", "n_subjects")),
        *(Column(name, "number", required=False, low=0) for name in ("log_loss_before", "log_loss_after")),
        Column("note", required=False),
    ),
)

#: Scores of the probabilities before and after temperature scaling, and the paired difference, as `RESULTS`.
CALIBRATION = Schema(
    name="calibration",
    version=1,
    key=("model", "cohort", "split", "metric", "state"),
    columns=(
        Column("model"),
        *_GROUP,
        Column("metric", allowed=ERRORS),
        Column("state", allowed=STATES),
        *(Column(name, "number", required=False) for name in ("value", "low", "high")),
        *_COUNTS,
    ),
)

#: Reliability curves of the predicted class, all seeds of a model together: in each bin of confidence that any prediction is in, the mean
#: confidence and the share that is right, with its interval.
RELIABILITY = Schema(
    name="reliability",
    version=1,
    key=("model", "cohort", "split", "state", "bin"),
    columns=(
        Column("model"),
        *_GROUP,
        Column("state", allowed=STATES[:2]),
        Column("bin", "integer", low=0, high=ECE_BINS - 1),
        *(Column(name, "integer", low=1) for name in ("n_predictions", "n_subjects")),
        *(Column(name, "number", low=0, high=1) for name in ("confidence", "right", "low", "high")),
        Column("level", "number", low=0, high=1),
    ),
)
