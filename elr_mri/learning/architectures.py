"""The networks' tables of blocks, varied as the ablations ask, and what becomes of a crop in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from elr_mri.errors import BadInput

Norm = Literal["instance", "batch", "group", "none"]


@dataclass(frozen=True)
class Block:
    """Convolution, normalisation, ReLU and, where `pool` is its kernel, a max-pool of stride 2.

    `channels` counts output channels per unit of width; all else is in voxels.
    """

    channels: int
    kernel: int
    padding: int = 0
    dilation: int = 1
    stride: int = 1
    pool: int | None = None

    def convolved(self, size: int) -> int:
        """Side of the map after the convolution, in voxels."""
        return (size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def pooled(self, size: int) -> int:
        """Side of the map after the pool, in voxels."""
        return size if self.pool is None else (size - self.pool) // 2 + 1


WIDE = (
    Block(4, kernel=1, pool=3),
    Block(32, kernel=3, dilation=2, pool=3),
    Block(64, kernel=5, padding=2, dilation=2, pool=5),
    Block(64, kernel=3, padding=1, dilation=2),
)
WIDE_PAPER = (*WIDE[:2], replace(WIDE[2], pool=3), replace(WIDE[3], pool=5))
ALEXNET = (
    Block(8, kernel=11, padding=2, stride=4, pool=3),
    Block(24, kernel=5, padding=2, pool=3),
    Block(48, kernel=3, padding=1),
    Block(32, kernel=3, padding=1),
    Block(32, kernel=3, padding=1, pool=3),
)
BLOCKS = {"wide": WIDE, "wide-paper": WIDE_PAPER, "alexnet": ALEXNET}

#: How MONAI's ResNet-18 shrinks a map: its first convolution and the first of each later stage; only sizes are read.
RESNET18_SIZES = (Block(8, 7, padding=3, stride=2), *(Block(c, 3, padding=1, stride=2) for c in (16, 32, 64)))
#: The largest crop that `smallest_crop` looks at, in voxels: twice a head at 1 mm.
LARGEST = 512


def last_side(table: tuple[Block, ...], crop: int, norm: Norm) -> int | None:
    """Side of the last map of these blocks, in voxels; None where a map vanishes.

    Instance norm needs two voxels a side: a single one minus its own mean is zero, whatever the scan.
    """
    least, size = 2 if norm == "instance" else 1, crop
    for block in table:
        size = block.convolved(size)
        if size < least:
            return None
        size = block.pooled(size)
        if size < 1:
            return None
    return size


def least_crop(table: tuple[Block, ...], norm: Norm) -> int:
    """The smallest crop for these blocks, in voxels."""
    for crop in range(1, LARGEST + 1):
        if last_side(table, crop, norm) is not None:
            return crop
    raise BadInput(
        expected=f"a first convolution that leaves something of {LARGEST} voxels",
        got=f"kernel {table[0].kernel}, stride {table[0].stride}",
        where="the network",
        fix="Lower first_kernel or first_stride.",
    )


def varied(
    name: str, first_pool: bool, first_kernel: int | None, first_stride: int | None, depth: int | None
) -> tuple[Block, ...]:
    """The blocks of a network as varied: another first convolution, no first pool, further blocks.

    The first padding grows with the kernel, so that the map keeps its size and the kernel alone is compared. Further blocks
    stand before the last one and have the channels of the one before them: the head stays as it is.
    """
    blocks = RESNET18_SIZES if name == "resnet18" else BLOCKS[name]
    if depth is not None and (name == "resnet18" or depth < len(blocks)):
        raise BadInput(
            expected="no depth: ResNet-18 has its own" if name == "resnet18" else f"a depth of {len(blocks)} or more",
            got=f"depth {depth}",
            where=name,
            fix="Leave it out (null), or deepen another network.",
        )
    first, *others = blocks
    kernel = first.kernel if first_kernel is None else first_kernel
    padding = max(0, first.padding + (kernel - first.kernel) // 2)
    if name == "resnet18":
        padding = kernel // 2  # MONAI's own choice
    first = replace(
        first, kernel=kernel, padding=padding, stride=first.stride if first_stride is None else first_stride
    )
    if name == "resnet18":
        return (first, *((Block(8, 3, padding=1, stride=2),) if first_pool else ()), *others)
    further = [Block(others[-2].channels, kernel=3, padding=1)] * ((depth or len(blocks)) - len(blocks))
    return (first if first_pool else replace(first, pool=None), *others[:-1], *further, others[-1])
