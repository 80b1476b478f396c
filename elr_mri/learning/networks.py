"""The four networks: tables of blocks, and the one loop that builds them.

`wide` is the network of Liu et al. (ML4H 2019, PMLR 116) as its released code executes it, `wide-paper`
as the paper tables it: the release registers one pool's name twice, so it pools 3, 3, 5 and then not at
all. `alexnet` is AlexNet (Krizhevsky 2014, arXiv:1404.5997, one tower) with every kernel cubed; `resnet18` is
MONAI's, with the stride of 2 in its first convolution of He et al. 2016. Width 8 is every network's
published size; another width scales its channels. First kernel, first stride and depth are the talk's
ablations (docs/decisions/0011-ablations.md).
"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor, nn

from elr_mri.config import Model
from elr_mri.errors import BadInput
from elr_mri.learning.age import AgeEncoder
from elr_mri.learning.architectures import BLOCKS, Block, Norm, last_side, least_crop, varied
from elr_mri.learning.blocks import Blocks, NormReluPool
from elr_mri.learning.dropout import Dropout
from elr_mri.learning.twins import Twins

Age = Literal["sinusoid", "scalar", "none"]


class VolumeNet(nn.Module):
    """Blocks → image feature (+ age) → class scores."""

    def __init__(
        self, blocks: nn.Module, embed: nn.Module, age: AgeEncoder | None, dropout: float, classifier: nn.Module
    ):
        super().__init__()
        self.blocks, self.embed, self.age = blocks, embed, age
        self.age_dropout = Dropout(dropout)
        self.classifier = classifier

    def forward(self, volumes: Tensor, ages_years: Tensor | None = None) -> Tensor:
        """Class scores.

        Parameters
        ----------
        volumes : (batch, n_channels, X, Y, Z) float, RAS+
        ages_years : (batch,) float or None
            Not looked at by a network without age; None adds nothing.

        Returns
        -------
        (batch, n_classes) float, logits
        """
        features = self.embed(self.blocks(volumes).flatten(1))
        if self.age is not None:
            if ages_years is not None:
                features = features + self.age(ages_years)
            features = self.age_dropout(features)
        return self.classifier(features)


def build(
    name: str,
    *,
    n_classes: int = 3,
    width: int = 8,
    norm: Norm = "instance",
    age: Age = "sinusoid",
    crop: int = 96,
    first_pool: bool = True,
    first_kernel: int | None = None,
    first_stride: int | None = None,
    depth: int | None = None,
    channels: int = 1,
    n_networks: int = 1,
) -> VolumeNet | Twins:
    """A network with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : "wide", "wide-paper", "resnet18" or "alexnet"
    width : int
        Channels per block; 8 is the published size.
    norm : "instance", "batch", "group" or "none"
    age : "sinusoid", "scalar" or "none"
    crop : int
        Side of the cubic input, in voxels. One that the network cannot take is refused.
    first_pool : bool
        False leaves out the first pool: the same blocks for the same field of view at twice the
        voxel size (48³ at 3 mm for 96³ at 1.5 mm).
    first_kernel, first_stride : int or None
        Of the first convolution, in voxels; None is the published one. Its padding follows the kernel.
    depth : int or None
        Number of blocks; None is the published one. Further ones are 3³ convolutions with padding 1.
    channels : int
        Channels of the input: 1 is the scan, 2 the scan and the log-Jacobian.
    n_networks : int
        More than 1 are twins: as many such networks, each with weights of its own.
    """
    if name != "resnet18" and name not in BLOCKS:
        raise BadInput(
            expected=f"one of {', '.join([*BLOCKS, 'resnet18'])}", got=repr(name), where="network", fix="Choose one."
        )
    table = varied(name, first_pool, first_kernel, first_stride, depth)
    side = last_side(table, crop, norm)
    if side is None:
        raise BadInput(
            expected=f"a crop of at least {least_crop(table, norm)} voxels",
            got=f"{crop}",
            where=_named(name, first_pool, first_kernel, first_stride),
            fix="Take a larger crop, a finer grid or a smaller first stride.",
        )
    members = [_one(name, table, side, n_classes, width, norm, age, first_pool, channels) for _ in range(n_networks)]
    return members[0] if n_networks == 1 else Twins(members)


def _one(
    name: str,
    table: tuple[Block, ...],
    side: int,
    n_classes: int,
    width: int,
    norm: Norm,
    age: Age,
    first_pool: bool,
    channels: int,
) -> VolumeNet:
    """One network of a table of blocks whose last map has `side` voxels a side."""
    if name == "resnet18":
        n_features = 64 * width
        blocks, embed, classifier = (
            _resnet18(table[0], width, norm, first_pool, channels),
            nn.Identity(),
            nn.Linear(n_features, n_classes),
        )
    else:
        blocks = Blocks(*_layers(table, width, norm, channels))
        n_inputs = table[-1].channels * width * side**3
        n_features, embed, classifier = (_alexnet_head if name == "alexnet" else _wide_head)(n_inputs, width, n_classes)
    encoder = None if age == "none" else AgeEncoder(n_features, age)
    return VolumeNet(blocks, embed, encoder, 0.0 if encoder is None else 0.1, classifier)


def arguments(model: Model, *, crop: int, n_classes: int, channels: int) -> dict[str, Any]:
    """What `build` takes for a model of a study, as it stands in a model folder."""
    own = ("width", "norm", "age", "first_pool", "first_kernel", "first_stride", "depth")
    chosen = {key: getattr(model, key) for key in own}
    if model.elr and model.elr.n_networks > 1:
        chosen["n_networks"] = model.elr.n_networks
    return {"name": model.network, "n_classes": n_classes, "crop": crop, "channels": channels, **chosen}


def final_side(
    name: str,
    crop: int,
    *,
    norm: Norm = "instance",
    first_pool: bool = True,
    first_kernel: int | None = None,
    first_stride: int | None = None,
) -> int | None:
    """Side of the last map for a cubic crop, in voxels; None where a map vanishes on the way. No depth changes it."""
    return last_side(varied(name, first_pool, first_kernel, first_stride, None), crop, norm)


def smallest_crop(
    name: str,
    *,
    norm: Norm = "instance",
    first_pool: bool = True,
    first_kernel: int | None = None,
    first_stride: int | None = None,
) -> int:
    """The smallest cubic crop that a network can take, in voxels."""
    return least_crop(varied(name, first_pool, first_kernel, first_stride, None), norm)


def _named(name: str, first_pool: bool, first_kernel: int | None, first_stride: int | None) -> str:
    """A network with what of it decides the crop, for messages."""
    given = {"first_kernel": first_kernel, "first_stride": first_stride}
    told = "".join(f", {key}: {value}" for key, value in given.items() if value is not None)
    return f"{name} (first_pool: {first_pool}{told})"


def _layers(table: tuple[Block, ...], width: int, norm: Norm, n_inputs: int) -> list[nn.Module]:
    """The blocks' modules, in order."""
    layers: list[nn.Module] = []
    for block in table:
        n_outputs = block.channels * width
        convolution = nn.Conv3d(
            n_inputs, n_outputs, block.kernel, stride=block.stride, padding=block.padding, dilation=block.dilation
        )
        layers += [convolution, NormReluPool(_norm_layer(norm, n_outputs), block.pool)]
        n_inputs = n_outputs
    return layers


def _norm_layer(norm: Norm, n_channels: int) -> nn.Module:
    """A normalisation layer; instance norm as the reference has it, without weights or running statistics."""
    if norm == "instance":
        return nn.InstanceNorm3d(n_channels)
    if norm == "batch":
        return nn.BatchNorm3d(n_channels)
    return nn.GroupNorm(math.gcd(4, n_channels), n_channels) if norm == "group" else nn.Identity()


def _wide_head(n_inputs: int, width: int, n_classes: int) -> tuple[int, nn.Module, nn.Module]:
    """Linear 1024 (+ age) → 512 → classes, nothing in between; the last two start at N(0, 0.01), as in the release."""
    classifier = nn.Sequential(nn.Linear(1024, 512), nn.Linear(512, n_classes))
    for layer in classifier:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return 1024, nn.Linear(n_inputs, 1024), classifier


def _alexnet_head(n_inputs: int, width: int, n_classes: int) -> tuple[int, nn.Module, nn.Module]:
    """AlexNet's three fully connected layers with dropout 0.5; 4096 units at width 8."""
    units = 512 * width
    embed = nn.Sequential(Dropout(0.5), nn.Linear(n_inputs, units), nn.ReLU())
    classifier = nn.Sequential(Dropout(0.5), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, n_classes))
    return units, embed, classifier


def _resnet18(first: Block, width: int, norm: Norm, first_pool: bool, n_inputs: int) -> nn.Module:
    """MONAI's 3-D ResNet-18 up to its pooled feature vector of 64 · width."""
    from monai.networks.nets import ResNet  # lazily: MONAI costs seconds, and only this network needs it

    layer = {
        "instance": ("instance", {"affine": True}),
        "batch": "batch",
        "group": ("group", {"num_groups": math.gcd(4, 8 * width)}),
    }
    if norm == "none":
        raise BadInput(
            expected="instance, batch or group norm",
            got="'none'",
            where="resnet18",
            fix="ResNet is not trained without.",
        )
    return ResNet(
        "basic",
        [2, 2, 2, 2],
        [c * width for c in (8, 16, 32, 64)],
        spatial_dims=3,
        n_input_channels=n_inputs,
        conv1_t_size=first.kernel,
        conv1_t_stride=first.stride,
        no_max_pool=not first_pool,
        feed_forward=False,
        norm=layer[norm],
    )


def n_parameters(net: nn.Module) -> int:
    """Number of weights of a network, trained or frozen."""
    return sum(p.numel() for p in net.parameters())
