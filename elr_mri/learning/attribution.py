"""What a score depends on, voxel by voxel: four ways, each for the evidence for AD over CN, s(x) = z_AD − z_CN.

x is what the network sees (the standardised crop), x₀ where a path begins.

| method | map | source |
|---|---|---|
| `gradient` | ∂s/∂x | Simonyan, Vedaldi, Zisserman 2014 |
| `gradient-input` | x ⊙ ∂s/∂x | Shrikumar et al. 2016, arXiv:1605.01713 |
| `smoothgrad` | mean over ε of ∂s/∂x at x + ε, ε ~ N(0, σ²) | Smilkov et al. 2017, arXiv:1706.03825, section 3 |
| `integrated` | (x − x₀) ⊙ ∫₀¹ ∂s/∂x at x₀ + α(x − x₀) dα, mean over x₀ | Sundararajan, Taly, Yan, ICML 2017, equation 1; Erion et al., Nat Mach Intell 2021, equation 3 |

MONAI's `VanillaGrad` and `SmoothGrad` take one scan at a time, one logit and no age, and there is no path method: the tests compare
ours with them. The integral is the midpoint rule. Its x₀ are scans of cognitively normal subjects, not black or the mean brain:
instance normalisation makes s blind to the contrast of x, so that on a path from a flat x₀ all change lies at its very beginning.

Strides and dilations imprint a grid on the gradient at one crop: the maps are means over crops at `SHIFTS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elr_mri.config import Explain
from elr_mri.learning.checkpoint import Model
from elr_mri.learning.views import centred

#: Offsets of the crops, voxels; the first is the evaluation's.
SHIFTS = ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1))

Shift = tuple[int, int, int]
Box = tuple[slice, slice, slice]


def attributions(
    model: Model,
    volumes: Tensor,
    ages_years: Tensor | None,
    settings: Explain,
    *,
    starts: Tensor | None = None,
    shifts: Sequence[Shift] = SHIFTS,
    seeds: Sequence[int] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The maps of some scans by every method of `settings`.

    Parameters
    ----------
    volumes : (batch, n_channels, X, Y, Z) packed values
    ages_years : (batch,) float or None
    starts : (n, n_channels, X, Y, Z) packed values
        Where the paths of `integrated` begin; the scan's own age stays.
    seeds : (batch,) int
        Of each scan's own noise for `smoothgrad`; by default 0, 1, …

    Returns
    -------
    maps : method → (batch, n_channels, X, Y, Z) float32, signed, zero outside the crops and where no voxel reaches the network
    logits : (batch, n_classes) float32, of the central crop
    """
    boxes = [crop_box(model, volumes.shape[2:], shift) for shift in shifts]
    seen = model.standardise(volumes)
    maps = {}
    slopes, logits = gradient(model, seen, ages_years, boxes)
    if "gradient" in settings.methods:
        maps["gradient"] = slopes
    if "gradient-input" in settings.methods:
        maps["gradient-input"] = slopes * seen
    if "smoothgrad" in settings.methods:
        seeds = range(len(seen)) if seeds is None else seeds
        maps["smoothgrad"] = smoothgrad(
            model, seen, ages_years, boxes, samples=settings.samples, noise=settings.noise, seeds=seeds
        )
    if "integrated" in settings.methods:
        maps["integrated"] = integrated(
            model, seen, ages_years, boxes, model.standardise(starts.to(volumes.device)), steps=settings.steps
        )
    if (informative := model.standardise.informative()) is not None:
        maps = {method: found * informative for method, found in maps.items()}
    return {method: found.cpu() for method, found in maps.items()}, logits.cpu()


def crop_box(model: Model, shape: Sequence[int], shift: Shift = (0, 0, 0)) -> Box:
    """The voxels of a packed grid that the network sees when its crop is shifted, as far as there is room."""
    return tuple(slice(start, start + model.crop) for start in centred(shape, model.crop, shift).offset)


def evidence(logits: Tensor) -> Tensor:
    """(batch, n_classes) → (batch,): z_AD − z_CN."""
    return logits[:, -1] - logits[:, 0]


def slope(model: Model, crops: Tensor, ages_years: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gradient of the evidence by standardised crops, of their shape, and the logits."""
    crops = crops.detach().clone().requires_grad_()
    logits = model.network(crops, ages_years)
    return torch.autograd.grad(evidence(logits).sum(), crops)[0], logits.detach()


def gradient(model: Model, seen: Tensor, ages_years: Tensor | None, boxes: Sequence[Box]) -> tuple[Tensor, Tensor]:
    """Mean gradient over the crops at `boxes`, on the grid of `seen` (batch, n_channels, X, Y, Z), and the first crop's logits."""
    total, told = torch.zeros_like(seen), []
    for box in boxes:
        found, logits = slope(model, seen[(..., *box)], ages_years)
        total[(..., *box)] += found
        told.append(logits)
    return total / len(boxes), told[0]


def smoothgrad(
    model: Model,
    seen: Tensor,
    ages_years: Tensor | None,
    boxes: Sequence[Box],
    *,
    samples: int,
    noise: float,
    seeds: Sequence[int],
) -> Tensor:
    """Mean gradient over noisy copies, each seen through the next of `boxes`; like `gradient` where `noise` is 0 and every box has its turn.

    The noise's standard deviation is `noise` times that of the scan's crop: the range of a standardised scan, by which the paper measures, is that of a few odd voxels.
    Each scan has its own noise, by its seed, whatever the batch that it comes in.
    """
    drawn = [torch.Generator(seen.device).manual_seed(seed) for seed in seeds]
    total = torch.zeros_like(seen)
    for sample in range(samples):
        box = boxes[sample % len(boxes)]
        crops = seen[(..., *box)]
        spread = noise * crops.std(dim=(1, 2, 3, 4), keepdim=True)
        noisy = crops + spread * torch.stack(
            [torch.randn(crops.shape[1:], generator=one, device=crops.device) for one in drawn]
        )
        total[(..., *box)] += slope(model, noisy, ages_years)[0]
    return total / samples


def integrated(
    model: Model,
    seen: Tensor,
    ages_years: Tensor | None,
    boxes: Sequence[Box],
    starts: Tensor,
    *,
    steps: int,
) -> Tensor:
    """Integrated gradients from each of `starts` (n, n_channels, X, Y, Z), standardised, each seen through the next of `boxes`.

    They sum to the change of the evidence, s(x) − s(x₀), mean over x₀, as closely as `steps` follow the path (`change`).
    """
    total = torch.zeros_like(seen)
    for place, start in enumerate(starts):
        box = boxes[place % len(boxes)]
        whole = (seen - start)[(..., *box)]
        for step in range(steps):
            here = start[(..., *box)] + (step + 0.5) / steps * whole
            total[(..., *box)] += whole * slope(model, here, ages_years)[0] / (steps * len(starts))
    return total


@torch.no_grad()
def change(model: Model, seen: Tensor, ages_years: Tensor | None, boxes: Sequence[Box], starts: Tensor) -> Tensor:
    """(batch,): what the integrated gradients of `integrated` have to sum to."""
    total = torch.zeros(len(seen), device=seen.device)
    for place, start in enumerate(starts):
        box = (..., *boxes[place % len(boxes)])
        first = start[box].expand(len(seen), *start[box].shape)
        total += evidence(model.network(seen[box], ages_years)) - evidence(model.network(first, ages_years))
    return total / len(starts)
