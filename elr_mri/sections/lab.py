"""Room `lab`: the noisy-label experiments, from the linear model to real scans."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elr_mri.errors import BadInput
from elr_mri.sections.base import Positive, Section, Share
from elr_mri.sections.loss import Elr, Gce, Loss, Sop

Count = Annotated[int, Field(ge=1)]

#: The ways to learn from wrong labels that the lab compares, by name; `lab.methods` adds to them or replaces them.
METHODS: dict[str, Loss] = {
    "ce": Loss(),
    "elr": Loss(elr=Elr()),
    "elr-weights": Loss(elr=Elr(targets="weights")),
    "elr-networks": Loss(elr=Elr(targets="networks")),
    "elr-plus": Loss(elr=Elr(targets="both", mixup=1.0)),
    "sop": Loss(sop=Sop()),
    "gce": Loss(gce=Gce()),
    "smoothing": Loss(label_smoothing=0.1),
    "early-stopping": Loss(patience=5),
}


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
    seed: int = 0


class Fit(Section):
    """How a network is trained on examples that lie in memory: `steps` divides the step size by `1/gamma` at each of `milestones` (epochs).

    `class_weights: balanced` weighs each given class by the inverse of its share.
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
    class_weights: Literal["balanced"] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"


class Linear(Section):
    """The two-class linear model x = ±v + noise."""

    seed: int = 0


class Images(Section):
    """Natural images: where they lie, the network, the noise and the methods compared; scikit-learn's digits where no path is given."""

    path: str | None = None
    methods: tuple[str, ...] = ("ce", "elr", "elr-plus")
    seeds: tuple[int, ...] = (0,)


class RoiPhantom(Section):
    """The synthetic table of ROI volumes: subjects of each split, and the planted disease effect relative to the literature's."""

    seed: int = 0
    n_train: Count = 460
    n_val: Count = 99
    n_test: Count = 96
    n_external: Count = 300
    effect_scale: Annotated[float, Field(ge=0)] = 1.0


class Tables(Section):
    """Tables of ROI volumes: the noise and the methods compared."""

    methods: tuple[str, ...] = ("ce", "elr", "sop")
    seeds: tuple[int, ...] = tuple(range(10))
    phantom: RoiPhantom = RoiPhantom()


class Lab(Section):
    """The noisy-label experiments; `methods` adds to the named ones, or replaces them."""

    methods: dict[str, Loss] = Field(default={})
    noise: Noise = Noise()
    linear: Linear = Linear()
    images: Images = Images()
    tables: Tables = Tables()

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
