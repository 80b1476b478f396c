"""Where the heads come from: the shipped Colin27 head, or real T1 scans named in the config."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to, resample_to_output

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.imaging.brain import bare_brain
from elr_mri.imaging.register import align
from elr_mri.imaging.template import HEAD_IMAGE, HEAD_MASK, MNI, brain_template
from elr_mri.imaging.transforms import to_template
from elr_mri.imaging.warp import inverse
from elr_mri.phantom.anatomy import Anatomy, planted_regions

#: Empty space around a brain-extracted anatomy, mm: about three standard deviations of a pose's shift.
ROOM_MM = 20.0


def files(source: str | config.Anatomy) -> list[Path]:
    """The files that an anatomy is read from."""
    if isinstance(source, config.Anatomy):
        return [Path(name) for name in (source.image, source.labels) if name]
    return [HEAD_IMAGE, HEAD_MASK]


def load(source: str | config.Anatomy) -> Anatomy:
    """Load one anatomy; a real scan is registered to MNI space, to know where its regions lie."""
    if isinstance(source, config.Anatomy):
        return _real(source)
    head, mask = nib.load(HEAD_IMAGE), nib.load(HEAD_MASK)
    image, brain = np.asarray(head.dataobj, dtype=np.float32), np.asarray(mask.dataobj) > 0
    return Anatomy(
        "colin27", image, head.affine, brain, planted_regions(image, brain, coordinates_mm(head.affine, image.shape))
    )


def coordinates_mm(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(3, X, Y, Z) float32 coordinates of an axis-aligned image."""
    axes = [affine[k, 3] + affine[k, k] * np.arange(n, dtype=np.float32) for k, n in enumerate(shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _real(source: config.Anatomy) -> Anatomy:
    """A real scan as an anatomy: on an axis-aligned 1 mm grid, its regions found through its registration to MNI space."""
    image = resample_to_output(_read(source.image), (1, 1, 1), order=1)
    if bare_brain(np.asarray(image.dataobj, dtype=np.float32), image.affine) is not None:
        image = _with_room(image)
    to_origin = np.eye(4)
    to_origin[:3, 3] = -(image.affine @ [*(np.array(image.shape) - 1) / 2, 1])[:3]
    image = _moved(image, to_origin)
    volume, affine = np.asarray(image.dataobj, dtype=np.float32), image.affine
    found = align(volume, affine, brain_template(MNI), config.Register())
    mni_mm = to_template(coordinates_mm(affine, volume.shape), found.matrix, inverse(found.warp))
    labels = None
    if source.labels is not None:
        told = _moved(_read(source.labels), to_origin)
        labels = np.asarray(resample_from_to(told, image, order=0).dataobj).astype(np.int16)
    name = Path(source.image).name.split(".")[0]
    return Anatomy(
        name, np.clip(volume, 0, None), affine, found.mask, planted_regions(volume, found.mask, mni_mm), labels
    )


def _moved(image: nib.Nifti1Image, motion: np.ndarray) -> nib.Nifti1Image:
    """The same voxels elsewhere. Poses turn about the origin of the millimetres, which in some files lies far outside of the head: a turn
    by 5° would then push the brain out of the field of view."""
    return nib.Nifti1Image(image.dataobj, motion @ image.affine)


def _with_room(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """A brain-extracted image with empty voxels around it: these files are cut close, and a turned and shifted brain would be cut off."""
    cells = np.ceil(ROOM_MM / np.asarray(image.header.get_zooms()[:3])).astype(int)
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ cells
    return nib.Nifti1Image(np.pad(np.asarray(image.dataobj), [(n, n) for n in cells]), affine)


def _read(name: str) -> nib.spatialimages.SpatialImage:
    """A 3-D image; raises `BadInput` where it is absent or not one."""
    try:
        image = nib.squeeze_image(nib.load(name))
    except (OSError, nib.filebasedimages.ImageFileError) as problem:
        raise BadInput(
            expected="a readable image", got=str(problem), where=f"phantom.anatomies, {name}", fix="Check the path."
        ) from problem
    if image.ndim != 3:
        raise BadInput(
            expected="a 3-D image", got=f"{image.ndim}-D", where=f"phantom.anatomies, {name}", fix="Name one volume."
        )
    return image
