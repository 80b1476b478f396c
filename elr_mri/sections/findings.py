"""Zone `findings`: the volume baseline, evaluation, the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from elr_mri.sections.base import Section
from elr_mri.sections.scans import Split

Feature = Literal[
    "hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right", "hippocampus", "entorhinal"
]


#: Smaller counts of people are told nowhere that leaves the house.
FEWEST = 5
#: One table each, where a table is not of all scans.
SPLIT_TABLES = ("train", "val", "test", "external")


class RoiTables(Section):
    """Which tables of ROI volumes: `path` is one table, or one each of `train`, `val`, `test` and `external` (FreeSurfer's columns, one row per scan);
    or our own `roi_volumes.tsv` or `measure` folder as `path`, with `scans` and, if there is one, `splits`."""

    path: str | None = None
    scans: str | None = None
    splits: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    external: str | None = None
    external_cohorts: tuple[str, ...] = ()
    subject: str | None = None
    label: str | None = None
    regions: tuple[str, ...] | None = None
    split: Split = Split()

    @model_validator(mode="after")
    def _one_way_to_name_the_scans(self) -> RoiTables:
        several = [name for name in SPLIT_TABLES if getattr(self, name)]
        if several and (self.path or self.scans):
            raise ValueError(
                "either path (with scans and splits), or one table for each of train, val, test and external"
            )
        if several and not {"train", "val", "test"} <= set(several):
            raise ValueError(f"tables of train, val and test; got {' and '.join(several)}")
        if (self.scans or self.splits) and not (self.path and self.scans):
            raise ValueError("scans (and splits) go with path, the volumes that `pack` or `measure` wrote")
        return self


class AllRegions(Section):
    """The second volume baseline, `volumes-all`: all regions that there are, and what is done about head size, age and external cohorts.

    `age` and `head`: taken out by the lines of healthy people (`controls`), or left in (`ignore`); age may be a `feature`. `models` is what validation chooses
    from. `align` moves an external cohort's features, and `prior_shift` adds a model `volumes-all-prior` with the classes' shares estimated there; see
    `elr_mri/findings/adaptation.py`.
    """

    age: Literal["controls", "ignore", "feature"] = "controls"
    head: Literal["controls", "ignore"] = "controls"
    models: Annotated[tuple[Literal["logistic", "forest", "boosting", "mean"], ...], Field(min_length=1)] = (
        "logistic",
        "forest",
        "boosting",
        "mean",
    )
    align: Literal["none", "location", "mixture"] = "none"
    prior_shift: bool = False

    @model_validator(mode="after")
    def _the_mean_is_of_several(self) -> AllRegions:
        if len(set(self.models)) < len(self.models) or ("mean" in self.models and len(self.models) < 3):
            raise ValueError(
                f"models must be different, and mean is that of two others or more; got {', '.join(self.models)}"
            )
        return self


class Baseline(Section):
    """The volume baselines, chosen on validation.

    `features` auto is each region's sides where the source of the volumes tells them, else its sum. `normalise` is how
    head size is taken out, see `elr_mri/findings/normalise.py`. `all_regions` is the second one (null: not made); `tables` what is read in place of the
    study's scans where the step is run by hand.
    """

    seed: int = 0
    features: tuple[Feature, ...] | Literal["auto"] = "auto"
    normalise: Literal["ratio", "residual", "none"] = "ratio"
    use_age: bool = False
    all_regions: AllRegions | None = AllRegions()
    tables: RoiTables = RoiTables()


class Fuse(Section):
    """A network and a volume baseline put together on validation.

    `model` is the network (null: that of `explain`, else the first), `baseline` what it is fused with.
    """

    seed: int = 0
    model: str | None = None
    baseline: Literal["volumes", "volumes-all"] = "volumes"
    folds: Annotated[int, Field(ge=2)] = 5


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
    min_cell: Annotated[int, Field(ge=0)] = FEWEST

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
    min_cell: Annotated[int, Field(ge=0)] = FEWEST

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
    min_cell: Annotated[int, Field(ge=0)] = FEWEST


class Report(Section):
    """The page that people read. `reference` is the model that the others are compared with on it.

    `in_house` shows real ids, exact counts and people's scans, for a page that does not leave the house: see `elr_mri/findings/privacy.py`.
    """

    reference: str = "volumes"
    in_house: bool = False
    title: str = "Early Alzheimer detection from structural MRI"
