"""What a network is trained on beside its given labels: the ways to learn from labels of which some are wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from elr_mri.sections.base import Positive, Section

Ema = Annotated[float, Field(ge=0, lt=1)]


class Elr(Section):
    """Early-learning regularization: weight λ and momentum β (Liu et al., NeurIPS 2020).

    `targets` says whose predictions the targets average: `outputs` the network's own (ELR), `weights` those of a running average of its
    weights, `networks` those of a second network trained beside it, `both` those of the second one's averaged weights (ELR+, with
    `mixup: 1`). `ramp_steps` is the step at which λ reaches its full weight, `ema` the averaged weights' decay per step and `ema_ramp_steps` the step
    at which the decay is reached (0: as soon as there is something to average). `mixup` is the α of its Beta distribution; 0 is none. `align` moves the
    targets so that over all scans the classes are as common among them as among the labels, as these are weighed.
    """

    weight: Annotated[float, Field(ge=0)] = 3.0
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.7
    targets: Literal["outputs", "weights", "networks", "both"] = "outputs"
    ramp_steps: Annotated[int, Field(ge=0)] = 0
    ema: Ema = 0.997
    ema_ramp_steps: Annotated[int, Field(ge=0)] = 0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    align: bool = False

    @property
    def n_networks(self) -> int:
        """Networks that are trained beside each other."""
        return 2 if self.targets in ("networks", "both") else 1

    @property
    def averages_weights(self) -> bool:
        """Whether the targets come from averaged weights."""
        return self.targets in ("weights", "both")

    @model_validator(mode="after")
    def _mixes_what_is_seen_unmixed(self) -> Elr:
        if self.mixup and not self.averages_weights:
            raise ValueError(
                "mixup needs targets of unmixed scans, which `targets: weights` or `targets: both` look at"
            )
        averaged = {"ema", "ema_ramp_steps"} if not self.averages_weights else set()
        if idle := [name for name in sorted(averaged) if getattr(self, name) != Elr.model_fields[name].default]:
            raise ValueError(f"{idle[0]} is of averaged weights, which `targets: {self.targets}` has none of")
        return self


class Sop(Section):
    """Sparse over-parameterization (Liu et al., ICML 2022): step sizes of each scan's u and v, by plain gradient descent on the batch's mean loss."""

    u_rate: Positive = 10.0
    v_rate: Positive = 10.0


class Gce(Section):
    """Generalised cross-entropy (Zhang & Sabuncu, NeurIPS 2018): q near 0 is cross-entropy, 1 the mean absolute error."""

    q: Annotated[float, Field(gt=0, le=1)] = 0.7


class Loss(Section):
    """Cross-entropy with the given labels, or with one of `elr`, `sop` and `gce` what is made against wrong ones.

    `label_smoothing` is the share of each label that is spread over all classes; `patience` stops after so many epochs without a better validation
    cross-entropy.
    """

    elr: Elr | None = None
    sop: Sop | None = None
    gce: Gce | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    patience: Annotated[int, Field(ge=1)] | None = None

    @property
    def takes_whole_labels(self) -> bool:
        """Whether the equation has no place for a smoothed label."""
        return self.sop is not None or self.gce is not None

    @model_validator(mode="after")
    def _one_at_a_time(self) -> Loss:
        given = [name for name in ("elr", "sop", "gce") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"one of elr, sop and gce, not {' and '.join(given)}")
        if self.label_smoothing and self.takes_whole_labels:
            raise ValueError(f"label_smoothing goes with cross-entropy or elr; the labels of {given[0]} are whole")
        return self
