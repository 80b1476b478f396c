"""How strongly an architecture answers to each voxel, whatever it learnt: what a map is divided by.

Convolutions without padding and pools with strides look at the middle of a crop through more paths than at its edge: the gradient of a `wide` network with
fresh weights is ten times as large in the middle as near the border, for scans and for white noise alike, and the middle is where ventricles and hippocampi lie. The reach is
measured with neither scans nor labels: the mean magnitude of the evidence's gradient over networks with fresh weights that look at white noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from elr_mri.learning.attribution import SHIFTS, crop_box, slope
from elr_mri.learning.checkpoint import Model, empty_model

#: Networks drawn, and scans of white noise that each looks at.
N_NETWORKS, N_SCANS = 4, 2
#: The noise of that mean is smoothed away, σ in voxels; reaches below this share of the mean count as this much, so that no map is blown up.
SMOOTH, FLOOR = 1.0, 0.1


def fresh(model: Model, facts: dict[str, Any], seed: int) -> Model:
    """The same preprocessing with a freshly drawn network."""
    torch.manual_seed(seed)
    drawn = empty_model(facts).eval().to(next(model.parameters()).device)
    drawn.standardise.load_state_dict(model.standardise.state_dict())
    return drawn


def reach(model: Model, facts: dict[str, Any], shape: Sequence[int], age_years: float) -> Tensor:
    """(X, Y, Z) float32 on a packed grid of that shape: 1 on average over the crops, `FLOOR` at least.

    facts : the model folder's `model.json`, which tells the architecture and the seed of the model; these networks have seeds of their own.
    """
    on = next(model.parameters()).device
    total = torch.zeros(tuple(shape), device=on)
    for place in range(N_NETWORKS):
        network = fresh(model, facts, facts["seed"] + 2 + place)
        channels = len(facts["preprocessing"]["channels"])
        noise = torch.randn(N_SCANS, channels, *shape, device=on)
        for shift in SHIFTS:
            box = crop_box(model, shape, shift)
            found, _ = slope(network, noise[(..., *box)], torch.full((N_SCANS,), age_years, device=on))
            total[box] += found.abs().mean(dim=(0, 1)) / found.abs().mean().clamp_min(torch.finfo(found.dtype).tiny)
    return smooth(total / (N_NETWORKS * len(SHIFTS))).clamp_min(FLOOR)


def smooth(values: Tensor) -> Tensor:
    """A volume (X, Y, Z) smoothed by a Gaussian, its border repeated outward."""
    radius = int(4 * SMOOTH + 0.5)
    steps = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype)
    weights = torch.exp(-0.5 * (steps / SMOOTH) ** 2)
    weights = weights / weights.sum()
    values = functional.pad(values[None, None], (radius,) * 6, mode="replicate")
    for axis in range(3):
        kernel = weights.view([-1 if k == axis else 1 for k in range(3)])
        values = functional.conv3d(values, kernel[None, None])
    return values[0, 0]
