"""The plain loop that training is measured against, and the scans that both see."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.utils.data import Dataset

from elr_mri.imaging.packed import MAX_INTENSITY, encode
from elr_mri.learning.networks import VolumeNet
from elr_mri.learning.views import View


def write_scans(folder: Path, n_scans: int, shape: tuple[int, int, int], *, whole_head: bool) -> None:
    """Synthetic brains, as NIfTI and as packed cache: smooth tissue and noise in an ellipsoid, 0 or noise around it."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in axes) < 0.8
    packed = np.empty((n_scans, *shape), dtype=np.uint8)
    for i in range(n_scans):
        tissue = gaussian_filter(rng.normal(size=shape), 3)
        volume = inside * (0.8 + 0.25 * tissue / tissue.std() + 0.03 * rng.normal(size=shape))
        volume = np.where(inside, volume, np.abs(0.05 * rng.normal(size=shape))) if whole_head else volume
        volume = volume.clip(0, MAX_INTENSITY).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, np.diag([1.5, 1.5, 1.5, 1])), folder / f"{i}.nii.gz")
        packed[i] = encode(volume, "uint8")
    np.save(folder / "volumes.npy", packed)


class PlainScans(Dataset):
    """The plain loop's scans: whole files, whole volumes."""

    def __init__(self, folder: Path, views: list[View], crop: int, dtype: str):
        self.folder, self.views, self.crop, self.dtype = folder, views, crop, np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        volume = nib.load(self.folder / f"{i}.nii.gz").get_fdata(dtype=self.dtype)
        return self.see(np.nan_to_num(volume), i), i % 3

    def see(self, volume: np.ndarray, i: int) -> Tensor:
        """View number i of a volume."""
        volume = (volume - volume.min()) / (volume.max() - volume.min())
        if self.views[i].sigma:
            volume = gaussian_filter(volume, self.views[i].sigma)
        box = tuple(slice(start, start + self.crop) for start in self.views[i].offset)
        return torch.from_numpy(np.ascontiguousarray(volume[box], dtype=np.float32)[None])


class PlainNet(nn.Module):
    """The same network with the same weights, a layer a line."""

    def __init__(self, net: VolumeNet):
        super().__init__()
        layers: list[nn.Module] = []
        for layer in net.blocks:
            pool = getattr(layer, "pool", None)
            layers += [layer] if isinstance(layer, nn.Conv3d) else [layer.norm, nn.ReLU()]
            layers += [nn.MaxPool3d(pool, stride=2)] if pool else []
        self.layers = nn.Sequential(*layers, nn.Flatten(), net.embed, net.classifier)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, X, Y, Z) → (batch, 3) logits."""
        return self.layers(volumes)
