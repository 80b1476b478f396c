"""Zone `learning`: networks, training, prediction, saliency."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elr_mri.errors import BadInput
from elr_mri.sections.base import Positive, Section


class Elr(Section):
    """Early-learning regularization: weight λ and momentum β (Liu et al., NeurIPS 2020)."""

    weight: Annotated[float, Field(ge=0)] = 3.0
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.7


class Model(Section):
    """One trained model: a network and what is varied between the models of a study.

    `epochs` and `learning_rate` go before those of `train`, for a network that needs its own.
    """

    network: Literal["wide", "wide-paper", "resnet18", "alexnet"]
    width: Annotated[int, Field(ge=1)] = 8
    norm: Literal["instance", "batch", "group", "none"] = "instance"
    age: Literal["none", "sinusoid", "scalar"] = "none"
    first_pool: bool = True
    elr: Elr | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Positive | None = None


class Train(Section):
    """The training recipe, shared by all models of a study.

    `shift_max` bounds the random crop's distance from the centre, in voxels per axis (null: anywhere in the
    grid, as the reference). `precision` auto is bfloat16 on a GPU that computes in it, else float32.
    """

    models: dict[str, Model] = Field(default={})
    epochs: Annotated[int, Field(ge=1)] = 60
    batch_size: Annotated[int, Field(ge=1)] = 4
    crop: Annotated[int, Field(ge=1)] = 96
    standardise: Literal["scan", "voxel"] = "voxel"
    optimizer: Literal["sgd", "adamw"] = "adamw"
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    learning_rate: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    blur_sigma_max: Annotated[float, Field(ge=0)] = 1.0
    shift_max: Annotated[int, Field(ge=0)] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    select: Literal["best", "last"] = "best"
    device: str = "auto"

    def of(self, slug: str) -> Train:
        """The recipe of one model: its own epochs and learning rate where it has them."""
        if slug not in self.models:
            raise BadInput(
                expected=f"a model among {', '.join(self.models) or '(none)'}",
                got=repr(slug),
                where="train.models",
                fix="Choose one.",
            )
        own = self.models[slug].model_dump(include={"epochs", "learning_rate"}, exclude_none=True)
        return self.model_copy(update=own)


class Predict(Section):
    """Evaluation crops."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    device: str = "auto"


class Explain(Section):
    """Gradient saliency."""

    model: str = "wide-age-elr"
    split: Literal["val", "test", "external"] = "test"
    device: str = "auto"
