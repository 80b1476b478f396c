"""The spaces: the brain template that scans are registered to, and the head template that finds the brain.

The default template is the ICBM 152 2009a symmetric brain that nilearn ships (Fonov et al., NeuroImage 54, 2011), so
nothing is downloaded. The head is Colin27 (Holmes et al., J Comput Assist Tomogr 22, 1998), see
`elr_mri/data/README.md`; both share MNI coordinates up to a small affine motion. Other templates: `foreign.py`.

The head template is always Colin27, also where the study's template is a head with a known brain mask: then the brain of
a scan does not change with the study's template, and Colin27's sharp scalp and skull, on which the extraction and its
limits were measured, are not exchanged for the blur that an average of many heads has there.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from elr_mri.imaging.grids import Grid, box, pull, through

DATA = Path(str(resources.files("elr_mri") / "data"))
HEAD_IMAGE = DATA / "tpl-Colin27_T1w.nii.gz"
HEAD_MASK = DATA / "tpl-Colin27_desc-brain_mask.nii.gz"

#: The default template's id, and the head template's.
MNI, HEAD = "MNI152NLin2009aSym", "Colin27"

#: Corners in MNI mm of the grid that outputs are written on (121 × 145 × 121 voxels at 1.5 mm, the box of SPM and of
#: the reference), and of the smaller grid on which brains are registered.
STUDY_BOX_MM = ((-90.0, -126.0, -72.0), (90.0, 90.0, 108.0))
BRAIN_BOX_MM = ((-82.0, -118.0, -80.0), (82.0, 84.0, 92.0))

Corners = tuple[tuple[float, ...], tuple[float, ...]]

#: What a box leaves around the brain of a template that does not lie in MNI space, at least.
ROOM_MM = 8.0


@dataclass(frozen=True, eq=False)
class Template:
    """An image with a mask of what matters in it: `id`, `image` (X, Y, Z) float32 in 0..1, `mask` (X, Y, Z) bool,
    `affine` (4, 4)."""

    id: str
    image: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    _kept: dict[bytes, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of image, mask and affine: two templates of one id are told apart."""
        parts = (self.image, self.mask, np.asarray(self.affine, dtype=np.float64))
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    @cached_property
    def from_mni(self) -> np.ndarray:
        """The affine map (4, 4) from MNI mm to the template's mm; the identity for a template in MNI space."""
        if self.id in (MNI, HEAD):
            return np.eye(4)
        from elr_mri.imaging.bridge import affine_from_mni  # it needs the shipped template of this module

        return affine_from_mni(self)

    @cached_property
    def extent_mm(self) -> np.ndarray:
        """The corners of the mask, (2, 3) RAS+ mm."""
        inside = np.argwhere(self.mask) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return np.stack([inside.min(axis=0), inside.max(axis=0)])

    def carried(self, corners: Corners) -> Corners:
        """A box in MNI mm, in the template's mm: the box around the carried corners, to whole mm."""
        if np.array_equal(self.from_mni, np.eye(4)):
            return corners
        ends = through(self.from_mni, np.array(list(itertools.product(*zip(*corners, strict=True)))).T)
        return tuple(np.floor(ends.min(axis=1))), tuple(np.ceil(ends.max(axis=1)))

    def study_grid(self, spacing_mm: float) -> Grid:
        """The grid of the outputs: MNI's for a template in MNI space; else a box of that size around the brain, larger
        where the brain is."""
        if np.array_equal(self.from_mni, np.eye(4)):
            return study_grid(spacing_mm)
        shift = np.round((self.extent_mm - brain_template(MNI).extent_mm).mean(axis=0))
        return box(*self._with_brain(np.asarray(STUDY_BOX_MM) + shift), spacing_mm)

    def brain_grid(self, spacing_mm: float) -> Grid:
        """The grid on which brains are registered to this template."""
        if np.array_equal(self.from_mni, np.eye(4)):
            return brain_grid(spacing_mm)
        return box(*self._with_brain(np.asarray(self.carried(BRAIN_BOX_MM))), spacing_mm)

    def _with_brain(self, corners: np.ndarray) -> Corners:
        """A box (2, 3) mm made large enough for the template's brain."""
        low, high = self.extent_mm + np.array([[-ROOM_MM], [ROOM_MM]])
        return tuple(np.floor(np.minimum(corners[0], low))), tuple(np.ceil(np.maximum(corners[1], high)))

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
    """The grid of the outputs at `spacing_mm`, in MNI space."""
    return box(*STUDY_BOX_MM, spacing_mm)


def brain_grid(spacing_mm: float) -> Grid:
    """The grid on which brains are registered at `spacing_mm`, in MNI space."""
    return box(*BRAIN_BOX_MM, spacing_mm)


@lru_cache(maxsize=2)
def brain_template(name: str, mask: str | None = None) -> Template:
    """The brain template: the shipped `MNI152NLin2009aSym`, or another by its TemplateFlow id or path (`foreign.py`)."""
    if name != MNI:
        from elr_mri.imaging.foreign import foreign_template  # it needs this module's head template

        return foreign_template(name, mask)
    from nilearn import datasets

    image, inside = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    return scaled(MNI, image, np.asarray(inside.dataobj) > 0)


@lru_cache(maxsize=1)
def head_template() -> Template:
    """The Colin27 head with its brain mask."""
    image, mask = (nib.as_closest_canonical(nib.load(path)) for path in (HEAD_IMAGE, HEAD_MASK))
    inside = ndimage.binary_opening(
        np.asarray(mask.dataobj) > 0, iterations=2
    )  # without the vessels and specks of the source mask
    return scaled(HEAD, image, inside)


def scaled(name: str, image: nib.spatialimages.SpatialImage, mask: np.ndarray) -> Template:
    """A template whose intensities lie in 0..1, 1 the brightest of the masked."""
    volume = np.asarray(image.dataobj, dtype=np.float32)
    volume = np.clip(volume / np.percentile(volume[mask], 99.9), 0, 1)
    return Template(name, volume, mask, np.asarray(image.affine))
