"""From the shipped template to another: where the other's regions lie, found once by registering the two.

The shipped labels, the box of the medial temporal lobes and the planes of the picture are told in the shipped template's
millimetres. The MNI templates share them within 3 mm, others do not, and a copied label would miss even by a few: so the
labels always follow the registration (affine and warp), and only boxes and planes are taken over as
they are where the affine part moves the brain by less than `NEAR_MM` on average.

What was found is kept in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`), by the digest of the template; it
can be removed at any time.
"""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from elr_mri.config import Register
from elr_mri.errors import BadInput
from elr_mri.imaging import qc
from elr_mri.imaging.affine import polish, register_affine
from elr_mri.imaging.grids import box, through
from elr_mri.imaging.labels import Labels, native_labels, read_labels
from elr_mri.imaging.template import MNI, Template, brain_template
from elr_mri.imaging.transforms import Warp, read_affine, read_warp, to_native, to_template, write_affine, write_warp
from elr_mri.imaging.warp import deform, inverse

#: Raised where the registration below, or what it stands on, finds something else.
VERSION = 1

#: Without the detail of a scan's registration, which follows atrophy, and here the blur of an average: between the shipped
#: template and a copy of it resampled at 1.5 mm it lost 5 % of the hippocampus and 8 % of the entorhinal cortex, the
#: stiff field alone 0.4 and 2 %.
SETTINGS = Register(affine_spacing_mm=3.0, syn_spacing_mm=2.0, syn_iterations=(30, 25, 20), detail_iterations=0)

#: A template that an affine moves by less, on average over the brain, lies in MNI space.
NEAR_MM = 4.0
#: The spacing of carried labels.
LABEL_SPACING_MM = 1.0


def head_size(template: Template) -> float:
    """The volume of the shipped template's intracranial mask laid on another template, mm³ of that."""
    shipped = brain_template(MNI)
    own = float(shipped.mask.sum() * abs(np.linalg.det(shipped.affine[:3, :3])))
    return own if template.id == MNI else own * float(abs(np.linalg.det(bridge(template)[0][:3, :3])))


def affine_from_mni(template: Template) -> np.ndarray:
    """The map (4, 4) from MNI mm to the template's mm; the identity for a template that lies in MNI space."""
    matrix, _, _ = bridge(template)
    points = _brain_points()
    moved = np.linalg.norm(through(matrix, points) - points, axis=0).mean()
    return np.eye(4) if moved < NEAR_MM else matrix


@lru_cache(maxsize=2)
def labels_on(template: Template, name: str) -> Labels:
    """The label map of `measure.labels` on a template, for pictures; measuring goes back to the map itself
    (`from_labels`), because a label that is resampled and cut at one half loses volume."""
    labels = read_labels(name)
    if not _follows(template, name):
        return labels
    matrix, _, back = bridge(template)
    low, high = template.extent_mm
    grid = box(tuple(np.floor(low)), tuple(np.ceil(high)), LABEL_SPACING_MM)
    return Labels(native_labels(labels, grid, matrix, back), grid.affine)


def from_labels(
    template: Template, name: str, matrix: np.ndarray, warp: Warp, back: Warp
) -> tuple[np.ndarray, Warp, Warp]:
    """The maps between the space of a label map and a scan, from those between a template and the scan.

    Parameters
    ----------
    name : str
        `measure.labels`.
    matrix, warp, back : template to native mm: (4, 4), the displacement before it, and the inverse of that.

    Returns
    -------
    The same three for the label map's space: unchanged for labels that lie on the template.
    """
    if not _follows(template, name):
        return matrix, warp, back
    first, there, here = bridge(template)
    points, whole = there.grid.points(), matrix @ first
    ends = to_native(to_native(points, first, there), matrix, warp)
    starts = to_template(to_template(through(whole, points), matrix, back), first, here)
    return whole, Warp(there.grid, through(np.linalg.inv(whole), ends) - points), Warp(there.grid, starts - points)


def _follows(template: Template, name: str) -> bool:
    """Whether the labels are on the shipped template and the scans on another."""
    return name == "shipped" and template.id != MNI


def _brain_points() -> np.ndarray:
    """Points all over the shipped brain, (3, n) mm."""
    shipped = brain_template(MNI)
    grid = shipped.brain_grid(8.0)
    return grid.points()[:, shipped.mask_on(grid) > 0.5]


@lru_cache(maxsize=2)
def bridge(template: Template) -> tuple[np.ndarray, Warp, Warp]:
    """The map (4, 4) from MNI mm to a template's mm, the warp before it, and the inverse of that.

    Raises
    ------
    BadInput
        Where the template does not look like the shipped one: quality control as for a scan.
    """
    folder = kept_dir() / f"tpl-{template.id}_{template.digest[:16]}_v{VERSION}"
    names = (f"from-{MNI}_affine.mat", f"from-{MNI}_warp.nii.gz", f"to-{MNI}_warp.nii.gz")
    files = [folder / name for name in names]
    if not all(path.is_file() for path in files):
        matrix, warp = _register(template)
        write_affine(files[0], matrix)
        write_warp(files[1], warp)
        write_warp(files[2], inverse(warp))
    return read_affine(files[0]), read_warp(files[1]), read_warp(files[2])


def _register(template: Template) -> tuple[np.ndarray, Warp]:
    """Lay the shipped template on another; the two are brains without a bias field."""
    shipped = brain_template(MNI)
    grid = shipped.brain_grid(SETTINGS.affine_spacing_mm)
    still = shipped.image_on(grid)
    start = register_affine(still, grid, template.image, template.affine)
    matrix = polish(still, grid, template.image, template.affine, start, spacing_mm=SETTINGS.affine_spacing_mm)
    warp = deform(shipped, template.image, template.affine, matrix, SETTINGS)
    state, reasons = qc.verdict(
        qc.numbers(shipped, template.image, template.image, template.mask, template.affine, matrix, warp)
    )
    if state == "fail":
        raise BadInput(
            expected="a T1 template of a human brain",
            got="; ".join(reasons),
            where=f"config, key register.template ({template.id})",
            fix="Look at the image and its brain mask; name the mask in register.template_mask.",
        )
    return matrix, warp


def kept_dir() -> Path:
    """Where registrations between templates are kept; a temporary folder where the user's cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elr_mri"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="elr_mri-"))
