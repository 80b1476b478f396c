"""Room `lab`: the noisy-label experiments, from the linear model to real scans."""

from __future__ import annotations

import re
from itertools import product
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from elr_mri.errors import BadInput
from elr_mri.sections.base import Positive, Section, Share
from elr_mri.sections.findings import RoiTables
from elr_mri.sections.loss import Loss
from elr_mri.variants import LOSSES

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


def _different(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"each value once; got {', '.join(map(str, values))}")
    return values


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_different)]
Shares = Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(_different)]
Methods = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_different)]
#: The ways to learn from wrong labels that the lab compares, by name; `lab.methods` adds to them or replaces them.
METHODS: dict[str, Loss] = {name: Loss(**keys) for name, keys in LOSSES.items()}


class Noise(Section):
    """Which labels are made wrong.

    `kind`: `symmetric` draws uniformly over all classes for a share of the examples, the true class among them, so that fewer are really wrong;
    `others` draws over the other classes; `asymmetric` follows `map`; `adjacent` goes to a neighbour in the order of the classes (CN, MCI, AD);
    `instance` flips to the class that a reference model finds likeliest after the true one, hard cases more often. `share` is the share of examples
    drawn, `per` what is drawn: each scan, or each subject with all visits. `splits` have wrong labels; test and external never do.
    """

    kind: Literal["symmetric", "others", "asymmetric", "adjacent", "instance"] = "adjacent"
    share: Share = 0.4
    map: dict[int, int] = Field(default={})
    per: Literal["scan", "subject"] = "scan"
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    seed: Seed = 0

    @model_validator(mode="after")
    def _a_map_goes_with_asymmetric(self) -> Noise:
        if self.map and self.kind != "asymmetric":
            raise ValueError(f"map goes with `kind: asymmetric`; got {self.kind}")
        return self


class Fit(Section):
    """How a network is trained on examples that lie in memory: `steps` divides the step size by `1/gamma` at each of `milestones` (epochs).

    `class_weights: balanced` weighs each given class by the inverse of its share. `precision: auto` is bfloat16 on a GPU that computes in it.
    """

    epochs: Count = 60
    batch_size: Count = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    milestones: tuple[Count, ...] = ()
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    device: str = "auto"


class Linear(Section):
    """The two-class linear model x = ±v + σ·noise with |v| = 1: by gradient descent on all `n_examples` at once, in `n_dimensions`.

    More dimensions than examples can fit any labels. `share` is the share of wrong labels; `sigmas` are the spreads at which the end is looked at again.
    """

    n_examples: Annotated[int, Field(ge=10)] = 400
    n_dimensions: Annotated[int, Field(ge=2)] = 500
    sigma: Positive = 0.2
    share: Annotated[float, Field(ge=0, lt=1)] = 0.4
    iterations: Annotated[int, Field(ge=2)] = 1500
    learning_rate: Positive = 0.1
    methods: Methods = ("ce", "elr")
    sigmas: tuple[Positive, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    seed: Seed = 0


class ImageNoise(Noise):
    """As `Noise`, with the literature's for images: symmetric, the true class among those drawn from; images have no subjects."""

    kind: Literal["symmetric", "others", "asymmetric", "adjacent"] = "symmetric"
    per: Literal["scan"] = "scan"


class Images(Section):
    """Natural images: where they lie, the network, the noise and the methods compared; scikit-learn's digits where no path is given.

    `path` is CIFAR-10's or CIFAR-100's archive (python or binary version), the folder that it unpacks to, or a folder of images by class, which are resized to `size`
    pixels a side. `test_share` and `split_seed` divide what comes without a test set; `validation` is the share of the training images held out.
    `recipe` is the training and the ELR weights published for a set (auto: the set's own; class folders: CIFAR-10's, from 100 classes on CIFAR-100's); the keys
    that `fit` names go before it, and other `epochs` move its milestones with them.
    """

    path: str | None = None
    size: Annotated[int, Field(ge=8)] = 32
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    split_seed: Seed = 0
    recipe: Literal["auto", "digits", "cifar10", "cifar100"] = "auto"
    network: Literal["auto", "small", "resnet18", "resnet34"] = "auto"
    augment: Literal["auto", "none", "crop", "crop-flip"] = "auto"
    noise: ImageNoise = ImageNoise()
    fit: Fit = Fit()
    methods: Methods = ("ce", "elr", "elr-plus")
    seeds: Seeds = (0,)


class RoiPhantom(Section):
    """The synthetic table of ROI volumes: subjects of each split, and the planted disease effect relative to the literature's.

    `ages`: those of all groups of a cohort are alike, or as the cohorts enrolled them (`enrolment`: in one the young are patients, in the
    other they are healthy; see `ENROLLED` in `elr_mri/phantom/roi_tables.py`).
    """

    seed: Seed = 0
    n_train: Count = 460
    n_val: Count = 99
    n_test: Count = 96
    n_external: Count = 200
    effect_scale: Annotated[float, Field(ge=0)] = 1.0
    ages: Literal["alike", "enrolment"] = "alike"


class Candidate(Section):
    """Settings of one trial of a method, in place of its own: of ELR `weight`, `beta` and `align`, of SOP `u_rate` and `v_rate`, of GCE `q`, of the training
    `weight_decay`, `learning_rate` and `epochs`."""

    weight: Annotated[float, Field(ge=0)] | None = None
    beta: Annotated[float, Field(ge=0, lt=1)] | None = None
    align: bool | None = None
    u_rate: Positive | None = None
    v_rate: Positive | None = None
    q: Annotated[float, Field(gt=0, le=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    learning_rate: Positive | None = None
    epochs: Count | None = None


def _grid(**keys: tuple[float, ...]) -> tuple[Candidate, ...]:
    """Every combination of the values."""
    return tuple(Candidate(**dict(zip(keys, values, strict=True))) for values in product(*keys.values()))


#: What validation chooses from, by the kind of loss: twelve trials each, so that no method is searched harder than another, and all as long:
#: a table of few scans needs many epochs. Laid out on synthetic tables of other seeds than the default's (docs/log.md).
GRIDS: dict[str, tuple[Candidate, ...]] = {
    "ce": _grid(weight_decay=(1e-3, 1e-2, 3e-2, 1e-1), epochs=(15, 30, 60)),
    "elr": _grid(weight=(3.0, 7.0), beta=(0.9,), align=(True,), weight_decay=(3e-2, 1e-1), epochs=(15, 30, 60)),
    "sop": _grid(u_rate=(10.0, 30.0), weight_decay=(3e-2, 1e-1), epochs=(15, 30, 60)),
    "gce": _grid(q=(0.3, 0.7), weight_decay=(3e-2, 1e-1), epochs=(15, 30, 60)),
}


class TableFit(Fit):
    """As `Fit`, with defaults for a table: large batches, and a given class counts by itself, not by its share.

    Neighbours' labels make MCI the commonest given class, and a network that hesitates would call everyone MCI.
    """

    batch_size: Count = 256
    class_weights: Literal["none", "balanced"] = "balanced"
    device: str = "cpu"


class Tables(RoiTables):
    """Tables of ROI volumes: which, what is made of them, the noise and the methods compared.

    `path` is one table (FreeSurfer's columns, one row per scan; or our `roi_volumes.tsv` or `measure` folder, with `scans` and, if there is one, `splits`);
    `train`, `val`, `test` and `external` are one table each (the authors' `*_volumes.tsv`). Without any, the synthetic
    table `phantom` is drawn. `grids` replaces what is tried of a method; by default what `lab.methods` sets of it is not tried otherwise.
    """

    normalise: Literal["ratio", "residual", "none"] = "residual"
    use_age: bool = False
    missing: Literal["median", "refuse"] = "median"
    phantom: RoiPhantom = RoiPhantom()
    methods: Methods = ("ce", "elr", "sop")
    shares: Shares = (0.0, 0.2, 0.4)
    seeds: Seeds = tuple(range(10))
    trial_seeds: Count = 2
    hidden: tuple[Count, ...] = (64, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    fit: TableFit = TableFit()
    grids: dict[str, Annotated[tuple[Candidate, ...], Field(min_length=1)]] = Field(default={})
    draws: Annotated[int, Field(ge=100)] = 4999
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95


class Mri(Section):
    """A network of the study on its own scans, with wrong labels for training and validation; judged by the true ones, last epoch.

    `base` is a model of the study (null: `wide`, else the first), whose loss each of `methods` replaces; `epochs` and `learning_rate` go before its own.
    Each of `seeds` draws the wrong labels and the weights anew. The report shows the first seed at share `reported` (null: shows none of it);
    `snakemake lab` makes all.
    """

    base: str | None = None
    methods: Methods = ("ce", "elr")
    shares: Shares = (0.0, 0.2, 0.4)
    seeds: Seeds = (0, 1, 2)
    reported: Share | None = None
    epochs: Count | None = None
    learning_rate: Positive | None = None


class LabelAudit(Section):
    """The page of labels to look at again: `model` of the study (null: the first with ELR), and how many scans are shown."""

    model: str | None = None
    shown: Count = 40


class Lab(Section):
    """The noisy-label experiments; `methods` adds to the named ones, or replaces them."""

    methods: dict[str, Loss] = Field(default={})
    noise: Noise = Noise()
    linear: Linear = Linear()
    images: Images = Images()
    tables: Tables = Tables()
    mri: Mri = Mri()
    audit: LabelAudit = LabelAudit()

    @model_validator(mode="after")
    def _methods_are_known(self) -> Lab:
        for name in self.methods:
            if not re.fullmatch(r"[a-z0-9-]+", name):
                raise ValueError(f"methods must be named in a-z, 0-9 and -; got {name!r}")
        known = METHODS | self.methods
        for room in ("linear", "images", "tables", "mri"):
            for name in getattr(self, room).methods:
                if name not in known:
                    raise ValueError(f"{room}.methods must be among {', '.join(known)}; got {name!r}")
        for name in self.tables.grids:
            if name not in known | GRIDS:
                raise ValueError(f"tables.grids must be of methods among {', '.join(known)}; got {name!r}")
        return self

    def method(self, name: str) -> Loss:
        """A method by its name."""
        known = METHODS | self.methods
        if name not in known:
            raise BadInput(
                expected=f"a method among {', '.join(known)}",
                got=repr(name),
                where="lab",
                fix="Choose one, or define it in lab.methods.",
            )
        return known[name]
