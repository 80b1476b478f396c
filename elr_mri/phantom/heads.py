"""Where the heads come from: the shipped Colin27 head, or real T1 scans named in the config."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from elr_mri import config
from elr_mri.imaging.template import HEAD_IMAGE, HEAD_MASK
from elr_mri.phantom.anatomy import Anatomy, planted_regions


def files(source: str | config.Anatomy) -> list[Path]:
    """The files that an anatomy is read from."""
    if isinstance(source, config.Anatomy):
        return [Path(name) for name in (source.image, source.labels) if name]
    return [HEAD_IMAGE, HEAD_MASK]


def load(source: str | config.Anatomy, work_dir: Path) -> Anatomy:
    """Load one anatomy; a real scan is registered to MNI space first (files in `work_dir`), to know where its regions lie."""
    if isinstance(source, config.Anatomy):
        return _real(source, work_dir)
    head, mask = nib.load(HEAD_IMAGE), nib.load(HEAD_MASK)
    image, brain = np.asarray(head.dataobj, dtype=np.float32), np.asarray(mask.dataobj) > 0
    return Anatomy("colin27", image, head.affine, brain, planted_regions(image, brain, coordinates_mm(head.affine, image.shape)))


def coordinates_mm(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(3, X, Y, Z) float32 coordinates of an axis-aligned image."""
    axes = [affine[k, 3] + affine[k, k] * np.arange(n, dtype=np.float32) for k, n in enumerate(shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))
