"""The phantom, and zone `scans`: cohorts, ingestion, splits."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from elr_mri.sections.base import Positive, Section, Share


class Anatomy(Section):
    """A head to deform phantoms from: a T1 image with, where there is one, a manual label map to carry along."""

    image: str
    labels: str | None = None


class Phantom(Section):
    """The synthetic study. `effect_scale` 1 is the literature's effect sizes; see `elr_mri/phantom/effects.py`."""

    seed: int = 0
    n_subjects: Annotated[int, Field(ge=6)] = 120
    n_external: Annotated[int, Field(ge=0)] = 30
    visits_per_subject: Annotated[int, Field(ge=1, le=5)] = 2
    effect_scale: Annotated[float, Field(ge=0)] = 1.0
    variability_mm: Annotated[float, Field(ge=0, le=6)] = 2.0
    spread_scale: Annotated[float, Field(ge=0)] = 1.0
    wrong_label_share: Share = 0.0
    spacing_mm: Positive = 1.0
    n_broken: Annotated[int, Field(ge=0)] = 0
    anatomies: Annotated[tuple[Literal["colin27"] | Anatomy, ...], Field(min_length=1)] = ("colin27",)
    workers: Annotated[int, Field(ge=1)] = 2


class Cohort(Section):
    """One download folder. `role` internal is split into train, val and test; external is only tested on.

    `tables` is the folder with participants.tsv where a CAPS folder has none itself.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
    format: Literal["adni", "nacc", "bids", "caps", "tsv"]
    path: str
    tables: str | None = None
    role: Literal["internal", "external"] = "internal"

    @field_validator("path", "tables")
    @classmethod
    def _from_home(cls, path: str | None) -> str | None:
        """`~/ADNI` as a shell would read it; every other path as it is written."""
        return path and os.path.expanduser(path)


class Cohorts(Section):
    """The cohorts of a study by themselves, as `ingest` takes them."""

    cohorts: Annotated[tuple[Cohort, ...], Field(min_length=1)]


class Ingest(Section):
    """How scans and visits are matched and which diagnoses count."""

    max_days: Annotated[int, Field(ge=0)] = 180
    carry_forward_days: Annotated[int, Field(ge=0)] = 0
    nacc_impaired_not_mci: Literal["exclude", "MCI", "CN"] = "exclude"
    nacc_ad: Literal["primary", "any", "dementia"] = "primary"


class Published(Section):
    """Split tables as the authors published them (participant_id, session_id, diagnosis), instead of a draw.

    `labels`: whose diagnosis counts where theirs and the scan table's differ.
    """

    train: str | None = None
    val: str | None = None
    test: str | None = None
    labels: Literal["scans", "published"] = "scans"

    @model_validator(mode="after")
    def _name_a_table(self) -> Published:
        if not (self.train or self.val or self.test):
            raise ValueError("published must name a table for train, val or test")
        return self


class Split(Section):
    """Shares of subjects, the rest is training; or published split tables."""

    seed: int = 0
    val_share: Share = 0.15
    test_share: Share = 0.2
    n_folds: Annotated[int, Field(ge=0)] = 5
    published: Published | None = None

    @model_validator(mode="after")
    def _leave_some_to_train_on(self) -> Split:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share and test_share must add up to less than 1")
        return self


class Demographics(Section):
    """The talk's table of subjects and scans; nothing to choose."""
