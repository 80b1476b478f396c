"""What `model.json` may say. A model folder may come from a stranger, so it is checked as a whole when it is read.

What it says decides how much memory a network takes, which files are read to prepare a scan, and what is written into cards, pages and
bundles, whose runtime evaluates texts that begin with `$`. Keys that are not named here are kept and trusted with nothing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from elr_mri.errors import BadInput
from elr_mri.learning.architectures import LARGEST
from elr_mri.learning.reference import WIDEST
from elr_mri.provenance import read_object
from elr_mri.scans.cells import one_line

#: Voxels of the largest grid: 1 mm, twice over along each axis.
MAX_VOXELS = 1 << 26


def _plain(text: str) -> str:
    if text[:1] in ("$", "@", "%"):
        raise ValueError("a text that a MONAI bundle does not evaluate")
    return text


Text = Annotated[str, Field(max_length=10_000), AfterValidator(_plain)]
Side = Annotated[int, Field(ge=1, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Real = Annotated[float, Field(allow_inf_nan=False)]


class _Told(BaseModel):
    """Types as JSON tells them: the text "8" is no number."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Network(_Told):
    """What `networks.build` takes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Literal["wide", "wide-paper", "resnet18", "alexnet"]
    n_classes: Literal[3]
    crop: Side
    channels: Annotated[int, Field(ge=1, le=2)] = 1
    width: Annotated[int, Field(ge=1, le=WIDEST)] = 8
    norm: Literal["instance", "batch", "group", "none"] = "instance"
    age: Literal["sinusoid", "scalar", "none"]
    first_pool: bool = True
    first_kernel: Side | None = None
    first_stride: Side | None = None
    depth: Annotated[int, Field(ge=1, le=64)] | None = None
    n_networks: Literal[1, 2] = 1


class Settings(_Told):
    """How scans are prepared: sections of the steps, which are checked where they are used."""

    convert: dict[str, Any]
    register_: dict[str, Any] = Field(alias="register")
    measure: dict[str, Any]


class Preprocessing(_Told):
    """The grid and its values."""

    standardise: Literal["scan", "voxel"]
    shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    channels: Annotated[list[Literal["T1w", "log_jacobian"]], Field(min_length=1, max_length=2)]
    spacing_mm: Annotated[float, Field(gt=0, le=20)]
    space: Literal["affine", "warped", "warped-jacobian"] | None = None
    template: Text | None = None
    dtype: Literal["uint8", "float16"] | None = None
    affine: list[list[Real]] | None = None
    intensity: dict[str, Any] | None = None
    log_jacobian: dict[str, Any] | None = None
    settings: Settings | None = None

    @model_validator(mode="after")
    def _of_a_head(self) -> Preprocessing:
        if math.prod(self.shape) > MAX_VOXELS:
            raise ValueError(f"a grid of at most {MAX_VOXELS} voxels")
        return self


class TrainedOn(_Told):
    """Whose scans."""

    synthetic: bool
    cohorts: list[Text]
    n_scans: Count
    n_subjects: Count
    scans_per_class: dict[Text, Count]
    age_years: Annotated[list[Real], Field(min_length=2, max_length=2)]


class Selected(_Told):
    """The kept epoch, and its figures under `val_`."""

    __pydantic_extra__: dict[str, Real]
    rule: Text
    epoch: Count


class Imported(_Told):
    """The file that weights were imported from."""

    file: Text
    sha256: Text
    layout: Text


class Facts(_Told):
    """All of `model.json` that is read; a trained model has `trained_on`, an imported one `imported`."""

    slug: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,100}$")]
    seed: Count
    classes: tuple[Literal["CN"], Literal["MCI"], Literal["AD"]] = Field(strict=False)
    licence: Text
    versions: dict[Text, Text]
    network: Network
    preprocessing: Preprocessing
    trained_on: TrainedOn | None
    imported: Imported | None = None
    selected: Selected | None = None
    settings: dict[Text, Any] | None = None
    model: dict[Text, Any] | None = None
    data: dict[Text, Text] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Facts:
        if self.network.channels != len(self.preprocessing.channels):
            raise ValueError("as many channels of the network as of the grid")
        if (self.trained_on is None) == (self.imported is None):
            raise ValueError("either `trained_on` or `imported`")
        if self.trained_on and None in (self.data, self.model, self.settings):
            raise ValueError("`data`, `model` and `settings` of a trained model")
        return self


def read(path: Path, version: int) -> dict[str, Any]:
    """`model.json` as it stands, once it is known to be of this `version` of the layout and within bounds; raises `BadInput`."""
    told = read_object(path)
    if told.get("version") != version:
        raise _refusal(path, f"model folder version {version}", repr(told.get("version")), "Train again.")
    try:
        Facts.model_validate(told)
    except ValidationError as problem:
        fault = problem.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"])) or "(top level)"
        where = f"{path}, key {one_line(key)[:120]}"
        raise _refusal(where, fault["msg"].removeprefix("Value error, "), repr(fault["input"])[:80]) from problem
    return told


def _refusal(
    where: Path | str, expected: str, got: str, fix: str = "Take another copy of the model, or train again."
) -> BadInput:
    return BadInput(expected=expected, got=one_line(got), where=str(where), fix=fix)
