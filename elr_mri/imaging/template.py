"""The spaces: the brain template that scans are registered to, and the head template that finds the brain.

The default template is the ICBM 152 2009a symmetric brain that nilearn ships (Fonov et al., NeuroImage 54, 2011), so
nothing is downloaded. The head is Colin27 (Holmes et al., J Comput Assist Tomogr 22, 1998), see
`elr_mri/data/README.md`; both share MNI coordinates up to a small affine motion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from elr_mri.errors import BadInput
from elr_mri.imaging.grids import Grid, box, pull
from elr_mri.provenance import digest_file

DATA = Path(str(resources.files("elr_mri") / "data"))
HEAD_IMAGE = DATA / "tpl-Colin27_T1w.nii.gz"
HEAD_MASK = DATA / "tpl-Colin27_desc-brain_mask.nii.gz"

#: The default template's id.
MNI = "MNI152NLin2009aSym"

#: Corners in RAS+ mm of the grid that outputs are written on (121 × 145 × 121 voxels at 1.5 mm, the box of SPM and of
#: the reference), and of the smaller grid on which brains are registered.
STUDY_BOX_MM = ((-90.0, -126.0, -72.0), (90.0, 90.0, 108.0))
BRAIN_BOX_MM = ((-82.0, -118.0, -80.0), (82.0, 84.0, 92.0))


@dataclass(frozen=True, eq=False)
class Template:
    """An image with a mask of what matters in it: `id`, `image` (X, Y, Z) float32 in 0..1, `mask` (X, Y, Z) bool,
    `affine` (4, 4)."""

    id: str
    image: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    _kept: dict[bytes, np.ndarray] = field(default_factory=dict, repr=False)

    def image_on(self, grid: Grid) -> np.ndarray:
        """The image on a grid of template space, (X, Y, Z) float32; kept, because every scan of a batch asks for the
        same."""
        return self._on(grid, "image")

    def mask_on(self, grid: Grid) -> np.ndarray:
        """The mask's share of each voxel of a grid of template space, (X, Y, Z) float32 in 0..1; kept likewise."""
        return self._on(grid, "mask")

    def _on(self, grid: Grid, name: str) -> np.ndarray:
        key = name.encode() + np.asarray(grid.shape).tobytes() + grid.affine.tobytes()
        if key not in self._kept:
            self._kept[key] = pull(getattr(self, name).astype(np.float32), self.affine, grid)
        return self._kept[key]


def study_grid(spacing_mm: float) -> Grid:
    """The grid of the outputs at `spacing_mm`."""
    return box(*STUDY_BOX_MM, spacing_mm)


def brain_grid(spacing_mm: float) -> Grid:
    """The grid on which brains are registered at `spacing_mm`."""
    return box(*BRAIN_BOX_MM, spacing_mm)


@lru_cache(maxsize=2)
def brain_template(name: str) -> Template:
    """The brain template: the shipped `MNI152NLin2009aSym`, or the path of a brain-extracted T1 image in MNI space."""
    if name == MNI:
        from nilearn import datasets

        image, mask = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
        return _template(MNI, image, np.asarray(mask.dataobj) > 0)
    path = Path(name)
    if not path.is_file():
        raise BadInput(
            expected=f"{MNI!r} or the path of a brain image in MNI space",
            got=repr(name),
            where="config, key register.template",
            fix="Check the path.",
        )
    image = nib.as_closest_canonical(nib.load(path))
    volume = np.asarray(image.dataobj)
    mask = ndimage.binary_fill_holes(volume > 0.02 * np.percentile(volume, 99.5))
    return _template(f"custom{digest_file(path)[:8]}", image, mask)


@lru_cache(maxsize=1)
def head_template() -> Template:
    """The Colin27 head with its brain mask."""
    image, mask = (nib.as_closest_canonical(nib.load(path)) for path in (HEAD_IMAGE, HEAD_MASK))
    inside = ndimage.binary_opening(
        np.asarray(mask.dataobj) > 0, iterations=2
    )  # without the vessels and specks of the source mask
    return _template("Colin27", image, inside)


def _template(name: str, image: nib.spatialimages.SpatialImage, mask: np.ndarray) -> Template:
    volume = np.asarray(image.dataobj, dtype=np.float32)
    volume = np.clip(volume / np.percentile(volume[mask], 99.9), 0, 1)
    return Template(name, volume, mask, np.asarray(image.affine))
