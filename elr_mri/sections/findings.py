"""Zone `findings`: the volume baseline, evaluation, the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from elr_mri.sections.base import Section

Feature = Literal[
    "hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right", "hippocampus", "entorhinal"
]


class Baseline(Section):
    """The volume baseline, chosen on validation.

    `features` auto is each region's sides where the source of the volumes tells them, else its sum. `normalise` is how
    head size is taken out, see `elr_mri/findings/normalise.py`.
    """

    seed: int = 0
    features: tuple[Feature, ...] | Literal["auto"] = "auto"
    normalise: Literal["ratio", "residual", "none"] = "ratio"
    use_age: bool = False


class Evaluate(Section):
    """Metrics with subject-clustered bootstrap intervals."""

    seed: int = 0
    draws: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


Grouped = Literal["balanced_accuracy", "macro_auc", "auc_cn", "auc_mci", "auc_ad"]


class Subgroups(Section):
    """Scores by age, sex, scanner, site and APOE ε4; no `models` are the report's reference and the model that `explain` names.

    A group is scored that has `min_subjects`, and `min_class` of every class; a count below `min_cell` is told nowhere.
    """

    seed: int = 0
    draws: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    models: tuple[str, ...] = ()
    metrics: Annotated[tuple[Grouped, ...], Field(min_length=1)] = ("balanced_accuracy", "macro_auc")
    age_bounds_years: Annotated[tuple[float, ...], Field(min_length=1)] = (70, 80)
    min_subjects: Annotated[int, Field(ge=2)] = 15
    min_class: Annotated[int, Field(ge=1)] = 3
    min_cell: Annotated[int, Field(ge=0)] = 5

    @model_validator(mode="after")
    def _bounds_rise(self) -> Subgroups:
        if list(self.age_bounds_years) != sorted(set(self.age_bounds_years)):
            raise ValueError(f"subgroups.age_bounds_years must rise; got {self.age_bounds_years}")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"subgroups.metrics must differ; got {', '.join(self.metrics)}")
        if self.min_subjects < self.min_cell:
            raise ValueError(
                f"subgroups.min_subjects must be min_cell ({self.min_cell}) at least; got {self.min_subjects}"
            )
        return self


class Progression(Section):
    """Time from MCI to AD by predicted risk; no `models` are the report's reference and the model that `explain` names.

    With fewer than `min_events` nothing is estimated; a count below `min_cell` is told nowhere, and curves end where fewer are at risk.
    """

    seed: int = 0
    draws: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    models: tuple[str, ...] = ()
    risk_groups: Literal[2, 3] = 2
    min_events: Annotated[int, Field(ge=2)] = 5
    min_cell: Annotated[int, Field(ge=0)] = 5

    @model_validator(mode="after")
    def _few_events_are_a_small_cell(self) -> Progression:
        if self.min_events < self.min_cell:
            raise ValueError(
                f"progression.min_events must be min_cell ({self.min_cell}) at least; got {self.min_events}"
            )
        return self


class Shift(Section):
    """How test and external scans differ from the training scans; a mean of fewer than `min_cell` subjects is told nowhere."""

    seed: int = 0
    draws: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    min_cell: Annotated[int, Field(ge=0)] = 5


class Report(Section):
    """The page that people read. `reference` is the model that the others are compared with on it."""

    reference: str = "volumes"
    title: str = "Early Alzheimer detection from structural MRI"
