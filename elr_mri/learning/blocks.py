"""Convolve, normalise, rectify and pool, the slow parts made fast without changing a number.

A first block that is a 1³ convolution of one channel is an affine map of the scan for each of its channels, so the
highest and the lowest voxel of every window serve them all (`pointwise_block`). Elsewhere, on a CPU: instance norm without weights is an increasing map of each channel, and so is ReLU: both commute with
max-pooling. Pooling first leaves an eighth of the voxels to normalise; only the statistics still need
the whole map. The gradient of the whole is one affine map of the convolution's output plus a few
scattered values (below), instead of three dense passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-5


class Blocks(nn.Sequential):
    """Convolutions and `NormReluPool`s in turn, as a network's table lists them."""

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, n_channels, X, Y, Z) → (batch, channels of the last block, x, y, z)."""
        layers = list(self)
        if _is_pointwise(*layers[:2]):
            maps, layers = pointwise_block(maps, layers[0].weight.flatten(), layers[1].pool), layers[2:]
        for layer in layers:
            maps = layer(maps)
        return maps


class NormReluPool(nn.Module):
    """Normalisation `norm`, ReLU, then a max-pool of kernel `pool` and stride 2 (none where `pool` is None)."""

    def __init__(self, norm: nn.Module, pool: int | None):
        super().__init__()
        self.norm, self.pool = norm, pool

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channels, X, Y, Z) → the same, pooled."""
        if self.pool is not None and isinstance(self.norm, nn.InstanceNorm3d) and maps.device.type == "cpu":
            return PooledInstanceNorm.apply(maps, self.pool)
        maps = functional.relu(self.norm(maps)).contiguous(memory_format=torch.channels_last_3d)
        return maps if self.pool is None else functional.max_pool3d(maps, self.pool, stride=2)


def _is_pointwise(convolution: nn.Conv3d, step: NormReluPool) -> bool:
    """Whether a block is an affine map of one channel, whose offset instance norm takes out again."""
    return (
        convolution.weight.shape[1:] == (1, 1, 1, 1)
        and convolution.stride == (1, 1, 1)
        and convolution.padding == (0, 0, 0)
        and isinstance(step.norm, nn.InstanceNorm3d)
    )


def pointwise_block(volumes: Tensor, weight: Tensor, pool: int | None) -> Tensor:
    """max_pool(relu(instance_norm(w x + b))) for every channel's w, from one max-pool and one min-pool of x.

    With m and v the mean and variance of x, instance_norm(w x + b) = a (x − m), a = w / √(w² v + ε): rising with x where
    w > 0, falling where w < 0; b drops out.

    Parameters
    ----------
    volumes : (batch, 1, X, Y, Z) float
    weight : (channels,) float
    pool : int or None
        Kernel, of stride 2.

    Returns
    -------
    (batch, channels, x, y, z) float32, channels last in memory
    """
    volumes = volumes.float()
    highest = lowest = centred = volumes - volumes.mean(dim=(2, 3, 4), keepdim=True)
    variance = (centred * centred).mean(dim=(2, 3, 4), keepdim=True)
    if pool is not None:
        highest, lowest = _pool(centred, pool, torch.maximum), _pool(centred, pool, torch.minimum)
    rate = weight * torch.rsqrt(weight**2 * variance + EPS)  # (batch, 1, 1, 1, channels): the last axis of the result
    rising = highest.movedim(1, -1) * rate.clamp_min(0)
    return functional.relu(torch.addcmul(rising, lowest.movedim(1, -1), rate.clamp_max(0))).movedim(-1, 1)


def _pool(maps: Tensor, kernel: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Max- or min-pool of stride 2, axis by axis: of one channel, seven times as fast as torch's own on a CPU."""
    for axis in (2, 3, 4):
        n = (maps.shape[axis] - kernel) // 2 + 1
        shifted = [maps[(slice(None),) * axis + (slice(i, i + 2 * n - 1, 2),)] for i in range(kernel)]
        maps = reduce(extreme, shifted)
    return maps


class PooledInstanceNorm(torch.autograd.Function):
    """max_pool(relu(instance_norm(y))), computed as relu((max_pool(y) − mean) / sd).

    With x̂ = (y − m)·r, r = 1/sd, and G the gradient that arrives at x̂ (zero but at the pool's maxima),
    the gradient is r · (G − mean(G) − x̂ · mean(G·x̂)) (Ioffe & Szegedy 2015, with each scan as its own batch).
    """

    @staticmethod
    def forward(ctx, y: Tensor, kernel: int) -> Tensor:
        y = y.contiguous(memory_format=torch.channels_last_3d)  # oneDNN pools this layout ten times as fast
        mean = _mean(y)
        rate = torch.rsqrt(_mean((y - mean).square_()) + EPS)
        peaks, places = functional.max_pool3d(y, kernel, stride=2, return_indices=True)
        out = functional.relu((peaks - mean) * rate)
        ctx.save_for_backward(y, mean, rate, out, places)
        return out.to(y.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        y, mean, rate, out, places = ctx.saved_tensors
        n_voxels = y[0, 0].numel()
        gradient = torch.where(out > 0, gradient.float(), 0.0)
        first = gradient.sum(dim=(2, 3, 4), keepdim=True) / n_voxels
        second = (gradient * out).sum(dim=(2, 3, 4), keepdim=True) / n_voxels
        shift, slope = rate * (mean * rate * second - first), -(rate**2) * second
        dense = torch.addcmul(shift.to(y.dtype), y, slope.to(y.dtype))
        return _scatter_add(dense, places, gradient * rate), None


def _mean(maps: Tensor) -> Tensor:
    """(batch, channels, 1, 1, 1) float32 means, plane by plane and then over planes: bfloat16 has no sum into float32
    that is as fast, and the rounding of a plane's sum averages out."""
    planes = maps.permute(0, 2, 3, 4, 1).sum(dim=(2, 3)).float().sum(dim=1)
    return (planes / maps[0, 0].numel())[:, :, None, None, None]


def _scatter_add(dense: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Add `values` (batch, channels, x, y, z) to `dense` at the flat voxel indices `places`, channel by channel."""
    batch, channels = dense.shape[:2]
    columns = dense.permute(0, 2, 3, 4, 1).contiguous().view(batch, -1)  # a view: the layout is channels-last
    flat = (places * channels + torch.arange(channels).view(1, -1, 1, 1, 1)).permute(0, 2, 3, 4, 1).reshape(batch, -1)
    columns.scatter_add_(1, flat, values.to(dense.dtype).permute(0, 2, 3, 4, 1).reshape(batch, -1))
    return columns.view(batch, *dense.shape[2:], channels).permute(0, 4, 1, 2, 3)
