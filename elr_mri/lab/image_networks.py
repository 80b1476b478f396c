"""Networks for small images, what makes bytes into their inputs, and the random changes of training images.

The networks take (batch, n_channels, height, width) float32 and return (batch, n_classes) logits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

#: Blocks of the four stages (He et al., CVPR 2016, table 1).
LAYERS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
#: Images up to this many pixels a side keep their size through the first layer, as is usual for CIFAR; larger ones are halved twice there.
SMALL = 64
#: CIFAR's usual augmentation: zeros around the image, of which a crop of its size is taken (He et al., section 4.2).
PADDING = 4


def build(name: str, n_channels: int, n_classes: int, size: int) -> nn.Module:
    """A network with fresh weights: `small`, `resnet18` or `resnet34`."""
    if name == "small":
        return small(n_channels, n_classes)
    from monai.networks.nets import ResNet  # lazily: MONAI costs seconds, and the digits need none of it

    stem = (
        {"conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": True}
        if size <= SMALL
        else {"conv1_t_size": 7, "conv1_t_stride": 2}
    )
    return ResNet(
        "basic",
        list(LAYERS[name]),
        [64, 128, 256, 512],
        spatial_dims=2,
        n_input_channels=n_channels,
        num_classes=n_classes,
        bias_downsample=False,
        **stem,
    )


def small(n_channels: int, n_classes: int, width: int = 16) -> nn.Sequential:
    """Two convolutions with pools, and a hidden layer wide enough to memorize some thousand labels: for digits of 8×8 pixels."""
    return nn.Sequential(
        nn.Conv2d(n_channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * width, 256),
        nn.ReLU(),
        nn.Linear(256, n_classes),
    )


def scaler(images: np.ndarray, *, standardise: bool) -> Callable[[Tensor], Tensor]:
    """What makes a batch of bytes into floats: from 0 to 1, or with mean 0 and standard deviation 1 in each channel of the training images (n, n_channels, height, width)."""
    mean, spread = moments(images) if standardise else (np.zeros(images.shape[1]), np.ones(images.shape[1]))
    shift, scale = (torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in (255 * mean, 255 * spread))

    def prepare(batch: Tensor) -> Tensor:
        floats = (batch.float() - shift.to(batch.device)) / scale.to(batch.device)
        return floats.contiguous(memory_format=torch.channels_last) if batch.is_cuda else floats

    return prepare


def moments(images: np.ndarray, batch: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n_channels,) of bytes taken from 0 to 1, exact, a few images at a time; a channel without spread counts as 1."""
    counts = np.zeros((images.shape[1], 256))
    for start in range(0, len(images), batch):
        for channel, values in enumerate(images[start : start + batch].swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    shares, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = shares @ values
    spread = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    return mean, np.where(spread > 0, spread, 1.0)


def augmentation(kind: str) -> Callable[[Tensor, np.random.Generator], Tensor] | None:
    """Random change of a batch (n, n_channels, height, width) of any type: `crop`, `crop-flip`, or `none`."""
    if kind == "none":
        return None

    def change(batch: Tensor, rng: np.random.Generator) -> Tensor:
        n = len(batch)
        offsets = rng.integers(0, 2 * PADDING + 1, (2, n))
        mirrored = rng.random(n) < (0.5 if kind == "crop-flip" else 0.0)
        return crop_flip(batch, *(torch.from_numpy(drawn).to(batch.device) for drawn in (*offsets, mirrored)))

    return change


def crop_flip(batch: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Crops of the padded images at `down` and `right` (n,) int pixels (`PADDING`: the image itself), some of them mirrored (n,) bool."""
    n, _, height, width = batch.shape
    padded = functional.pad(batch, (PADDING,) * 4)
    across = torch.arange(width, device=batch.device).expand(n, width)
    across = torch.where(mirrored[:, None], across.flip(1), across) + right[:, None]
    along = torch.arange(height, device=batch.device) + down[:, None]
    each = torch.arange(n, device=batch.device)[:, None, None]
    return padded[each, :, along[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)
