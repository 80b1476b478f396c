"""Checkpoints in the released layout, from formulas: tests and whoever runs the released code fill in the same weights."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch

from elr_mri.learning.age import sinusoids


def uniform(seed: int, n: int) -> np.ndarray:
    """n float64 in [−1, 1): a hash of the index (the finaliser of MurmurHash3, 32 bits), the same everywhere."""
    h = (np.arange(n, dtype=np.uint64) + np.uint64(seed * 0x9E3779B1 & 0xFFFFFFFF)).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> np.uint32(shift)
        h *= np.uint32(factor)
    return (h ^ h >> np.uint32(16)) / 2.0**31 - 1


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 weights of a layer, by its name: of unit gain, biases within ± 0.1, LayerNorm about 1."""
    drawn = uniform(zlib.crc32(name.encode()), math.prod(shape)).reshape(shape)
    if name.endswith("bias"):
        drawn *= 0.1
    elif "lrn" in name:
        drawn = 1 + 0.1 * drawn
    else:
        drawn *= math.sqrt(3 / math.prod(shape[1:]))
    return drawn.astype(np.float32)


def volume(shape: tuple[int, int, int]) -> np.ndarray:
    """(X, Y, Z) float32 in [0, 1]: smooth waves with noise, not symmetric in any axis."""
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    waves = np.sin(7 * x + 2 * y) * np.cos(5 * y - 3 * z) + np.sin(11 * z * x)
    noisy = waves + 0.3 * uniform(1, math.prod(shape)).reshape(shape)
    return ((noisy - noisy.min()) / (noisy.max() - noisy.min())).astype(np.float32)


def shapes(width: int, *, age: bool = True) -> dict[str, tuple[int, ...]]:
    """Shapes of the released tensors by their names, without prefixes."""
    f = width
    layers: dict[str, tuple[int, ...]] = {
        "conv.conv0_s1": (4 * f, 1, 1, 1, 1),
        "conv.conv1_s1": (32 * f, 4 * f, 3, 3, 3),
        "conv.conv2_s1": (64 * f, 32 * f, 5, 5, 5),
        "conv.conv3_s1": (64 * f, 64 * f, 3, 3, 3),
        "fc6.fc6_s1": (1024, 64 * f * 125),
        "classifier.LinearClassifier": (512, 1024),
        "classifier.LinearClassifier2": (3, 512),
    }
    if age:
        layers |= {"age_encoder.fc6.fc6_s1": (512, 512), "age_encoder.fc6.lrn0_s1": (512,)}
        layers |= {"age_encoder.fc6.fc6_s3": (1024, 512)}
    told = {f"{layer}.weight": shape for layer, shape in layers.items()}
    told |= {f"{layer}.bias": shape[:1] for layer, shape in layers.items()}
    return told | ({"age_encoder.pe": (240, 512)} if age else {})


def released(width: int, *, age: bool = True) -> dict[str, torch.Tensor]:
    """Tensors of a released network with the formula's weights."""
    return {
        name: sinusoids() if name == "age_encoder.pe" else torch.from_numpy(values(name, shape))
        for name, shape in shapes(width, age=age).items()
    }


def hollow(*, age: bool = True) -> dict[str, torch.Tensor]:
    """The same names and shapes with a single zero behind each: a small file for what is refused before any weight counts."""
    told = {name: torch.zeros(1).expand(shape) for name, shape in shapes(1, age=age).items()}
    return told | ({"age_encoder.pe": sinusoids()} if age else {})


def prefixed(tensors: dict[str, torch.Tensor], outer: str = "model.") -> dict[str, torch.Tensor]:
    """The keys as the released loop saves them: image network and classifier in a model, in its loss wrapper."""
    return {
        outer + ("classifier." if name.startswith("classifier.") else "image_embedding_model.") + name: weight
        for name, weight in tensors.items()
    }
