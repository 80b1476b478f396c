"""The volume baseline's `model.json` as one scan's percentiles need it, checked: it may come from a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from elr_mri.errors import BadInput
from elr_mri.provenance import read_object

Positive = Annotated[float, Field(gt=0)]
Hippocampus = Literal["hippocampus_left", "hippocampus_right", "hippocampus"]


class _Told(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Line(_Told):
    """A volume by age: a line, and the standard deviation about it."""

    intercept: float
    slope_per_year: float
    residual_deviation: Positive


class Normalisation(_Told):
    """How head size is taken out (`normalise.py`)."""

    method: Literal["ratio", "residual", "none"]
    slopes: dict[str, float] = Field(default={})
    mean_intracranial_mm3: float | None = None


class Reference(_Told):
    """The lines of the regions."""

    regions: dict[Hippocampus, Line]


class Stored(_Told):
    """What is read of `model.json`."""

    version: int
    source: str
    normalisation: Normalisation
    reference: Reference

    @model_validator(mode="after")
    def _a_slope_for_each_region(self) -> Stored:
        how = self.normalisation
        if how.method == "residual" and (
            how.mean_intracranial_mm3 is None or set(self.reference.regions) - set(how.slopes)
        ):
            raise ValueError("mean_intracranial_mm3, and a slope of each region, with the method residual")
        return self


def read(path: Path | str, version: int) -> dict[str, Any] | int:
    """`model.json` of a volume baseline as it stands, or its version where that is not `version`; raises `BadInput` where it is none."""
    told = read_object(path)
    if isinstance(told.get("version"), int) and told["version"] != version:
        return told["version"]
    try:
        Stored.model_validate(told)
    except ValidationError as problem:
        fault = problem.errors(include_url=False)[0]
        raise BadInput(
            expected=fault["msg"].removeprefix("Value error, "), got=repr(fault["input"])[:80],
            where=f"{path}, key {'.'.join(map(str, fault['loc']))[:120] or '(top level)'}",
            fix="Run `elr-mri baseline` again.",
        ) from problem  # fmt: skip
    return told
