"""Zone `learning`: networks, training, prediction, saliency."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from elr_mri.errors import BadInput
from elr_mri.sections.base import Positive, Section, Share
from elr_mri.sections.loss import Loss

Network = Literal["wide", "wide-paper", "resnet18", "alexnet"]


class Augment(Section):
    """Random changes of each training view beside crop and blur, drawn anew every epoch; 0 is none.

    `rotate_deg`, `scale` (a share: 0.05 is 0.95 to 1.05) and `translate_mm` are the largest of an affine jitter, uniform about none; `flip` is the
    chance of a left-right mirror; `gamma` the largest |log γ| of a power of the intensities; `noise` the largest standard deviation of
    white noise, as a share of the intensity range, and `bias_field` the largest coefficient of a smooth log-field (a polynomial of degree 3).
    """

    flip: Share = 0.0
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    translate_mm: Annotated[float, Field(ge=0)] = 0.0
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.0
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    bias_field: Annotated[float, Field(ge=0, le=2)] = 0.0


#: What a model may have of its own of the recipe that all share.
OWN = {"epochs", "batch_size", "learning_rate", "label_smoothing", "patience"}


class Model(Loss):
    """One trained model: a network, its loss and what else is varied between the models of a study.

    `first_kernel`, `first_stride` (voxels) and `depth` (blocks) are the published ones where null. `epochs`, `batch_size`,
    `learning_rate`, `label_smoothing` and `patience` go before those of `train`, for a network that needs its own.
    """

    network: Network
    width: Annotated[int, Field(ge=1)] = 8
    norm: Literal["instance", "batch", "group", "none"] = "instance"
    age: Literal["none", "sinusoid", "scalar"] = "none"
    first_pool: bool = True
    first_kernel: Annotated[int, Field(ge=1)] | None = None
    first_stride: Annotated[int, Field(ge=1)] | None = None
    depth: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Positive | None = None


#: The named recipes of training: what each sets. `reference` is the released code's; a key given beside it goes before it.
TRAINING: dict[str, dict[str, Any]] = {
    "default": {},
    "reference": {
        "epochs": 200,
        "batch_size": 4,
        "crop": 96,
        "standardise": "scan",
        "optimizer": "sgd",
        "schedule": "constant",
        "learning_rate": 0.01,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "blur_sigma_max": 1.0,
        "shift_max": None,
        "precision": "float32",
    },
}


class Variant(Model):
    """What an ablation changes of the base model: the keys that are given."""

    network: Network = "wide"


class Ablations(Section):
    """Variants of one model, each compared with it; `snakemake ablations` trains them.

    `base` is a model of the study (null: `wide-age`, else the first). `variants` names the keys that each changes; where there are
    none, the talk's ablations of the base are made (`elr_mri/variants.py`).
    """

    base: str | None = None
    variants: dict[str, Variant] = Field(default={})


class Train(Section):
    """The training recipe, shared by all models of a study.

    `recipe` sets the rest but models and device. `shift_max` bounds the random crop's distance from the centre, in voxels per axis (null: anywhere in the
    grid, as the reference). `precision` auto is bfloat16 on a GPU that computes in it, else float32. `class_weights` balanced weighs each
    class by the inverse of its share of the training scans. `clip_norm` bounds the gradient's norm. `ema` is the decay per step of
    averaged weights, which are then the ones validated and kept. `patience` stops after so many epochs without a better validation
    cross-entropy. `save_minutes` is the longest that a killed run loses. `resident` holds all packed scans on the device: auto where they fit.
    """

    recipe: Literal["default", "reference"] = "default"
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
    clip_norm: Positive | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Annotated[int, Field(ge=1)] | None = None
    blur_sigma_max: Annotated[float, Field(ge=0)] = 1.0
    shift_max: Annotated[int, Field(ge=0)] | None = None
    augment: Augment = Augment()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    select: Literal["best", "last"] = "best"
    deterministic: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    resident: bool | Literal["auto"] = "auto"
    save_minutes: Annotated[float, Field(ge=0)] = 10.0
    device: str = "auto"

    @model_validator(mode="before")
    @classmethod
    def _follow_recipe(cls, given: Any) -> Any:
        recipe = given.get("recipe") if isinstance(given, dict) else None
        return TRAINING[recipe] | given if isinstance(recipe, str) and recipe in TRAINING else given

    @model_validator(mode="after")
    def _smooths_labels_that_may_be(self) -> Train:
        for slug, model in self.models.items():
            if self.label_smoothing and model.takes_whole_labels and model.label_smoothing is None:
                raise ValueError(f"sop and gce take whole labels: give models.{slug} its own label_smoothing: 0")
        return self

    def of(self, slug: str) -> Train:
        """The recipe of one model: its own epochs, batch size and so on where it has them."""
        if slug not in self.models:
            raise BadInput(
                expected=f"a model among {', '.join(self.models) or '(none)'}",
                got=repr(slug),
                where="train.models",
                fix="Choose one.",
            )
        own = self.models[slug].model_dump(include=OWN, exclude_none=True)
        return self.model_copy(update=own)


class Predict(Section):
    """Evaluation crops: the central one, or the mean over `crops` of them, the others up to `reach` voxels off the centre."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    crops: Annotated[int, Field(ge=1, le=27)] = 1
    reach: Annotated[int, Field(ge=0)] = 4
    device: str = "auto"


#: Ways to map what a prediction depends on (`learning/attribution.py`); the first two cost one pass together.
Method = Literal["gradient", "gradient-input", "smoothgrad", "integrated"]


class Explain(Section):
    """Saliency by one or several `methods`; figures are drawn of the first.

    `samples` noisy copies of a scan are averaged by smoothgrad, the noise's standard deviation being `noise` times the scan's own. `integrated` goes from
    `baselines` training scans of cognitively normal subjects to the scan in `steps` each. Maps are smoothed with their signs, σ `smooth_voxels`. `check_scans` scans are mapped again and again while the network's layers are
    randomised from the top (0: none are). `permuted` trains the model once more, on labels drawn at random, and maps that, too.
    """

    model: str = "wide-age-elr"
    split: Literal["val", "test", "external"] = "test"
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("gradient", "gradient-input")
    samples: Annotated[int, Field(ge=1)] = 8
    noise: Annotated[float, Field(ge=0)] = 0.3
    smooth_voxels: Annotated[float, Field(ge=0)] = 1.0
    baselines: Annotated[int, Field(ge=1)] = 4
    steps: Annotated[int, Field(ge=1)] = 8
    check_scans: Annotated[int, Field(ge=0)] = 8
    permuted: bool = False
    device: str = "auto"

    @model_validator(mode="after")
    def _each_method_once(self) -> Explain:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"each of methods once; got {', '.join(self.methods)}")
        return self
