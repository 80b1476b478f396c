"""Zone `findings`: the volume baseline, evaluation, the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


class Report(Section):
    """The page that people read. `reference` is the model that the others are compared with on it.

    `in_house` shows real ids, exact counts and people's scans, for a page that does not leave the house: see `elr_mri/findings/privacy.py`.
    """

    reference: str = "volumes"
    in_house: bool = False
    title: str = "Early Alzheimer detection from structural MRI"
