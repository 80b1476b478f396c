"""Derives the shipped label map from Colin27's AAL and Brodmann maps: run once by a maintainer, committed with its
result.

    python -m elr_mri.imaging.derive_labels aal.nii.gz brodmann.nii.gz

with the two maps of Debian's `mricron-data` (see `elr_mri/data/README.md`). Colin27's brain is registered to the
default template as any scan is, only finer, and the maps follow. The rules, all of them:

* The template is symmetric, so the two sides are one estimate: a voxel belongs to a region where the mean of the left
  map and the mirrored right map is at least one half.
* AAL draws the hippocampus generously (7.5 ml): only voxels of grey-matter intensity on the template stay, that is,
  between `FLUID` and `WHITE`, and an opening by one voxel removes the specks that this leaves.
* The entorhinal cortex is Brodmann's areas 28 and 34 together with AAL's parahippocampal gyrus, below z = −20 and in
  front of y = −10 mm (behind lies the posterior parahippocampal cortex), without AAL's hippocampus and amygdala,
  trimmed likewise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from elr_mri.config import Register
from elr_mri.imaging.grids import Grid, at
from elr_mri.imaging.labels import REGIONS, SHIPPED
from elr_mri.imaging.register import align
from elr_mri.imaging.template import MNI, Template, brain_template, head_template
from elr_mri.imaging.transforms import to_native
from elr_mri.provenance import atomic

#: AAL: Tzourio-Mazoyer et al., NeuroImage 15, 2002; numbers left, right.
HIPPOCAMPUS, PARAHIPPOCAMPAL, AMYGDALA = (37, 38), (39, 40), (41, 42)
#: Brodmann areas of the entorhinal cortex; the map numbers both sides alike.
ENTORHINAL_AREAS = (28, 34)
ENTORHINAL_FRONT_MM, ENTORHINAL_TOP_MM = -10.0, -20.0

#: Template intensity (0 to 1): below is fluid, above is white matter.
FLUID, WHITE = 0.60, 0.78

SETTINGS = Register(
    affine_spacing_mm=3.0,
    syn_spacing_mm=2.0,
    syn_iterations=(30, 25, 20),
    detail_spacing_mm=1.0,
    detail_iterations=30,
)


def derive(aal_path: Path, brodmann_path: Path) -> nib.Nifti1Image:
    """The label map (X, Y, Z) uint8 on the default template's grid, with the numbers of `labels.REGIONS`."""
    template, head = brain_template(MNI), head_template()
    found = align(head.image * head.mask, head.affine, template, SETTINGS)
    points = Grid(template.image.shape, template.affine).points()
    sources = {name: nib.load(path) for name, path in (("aal", aal_path), ("brodmann", brodmann_path))}
    there = to_native(points, found.matrix, found.warp)

    def share(source: str, numbers: tuple[int, ...]) -> np.ndarray:
        image = sources[source]
        inside = np.isin(np.asarray(image.dataobj), numbers).astype(np.float32)
        return at(inside, image.affine, there, mode="constant")

    left = points[0] < 0
    hippocampus = _one_side(share("aal", HIPPOCAMPUS), left)
    other = _one_side(share("aal", HIPPOCAMPUS + AMYGDALA), left)
    entorhinal = _one_side(np.maximum(share("aal", PARAHIPPOCAMPAL), share("brodmann", ENTORHINAL_AREAS)), left)
    entorhinal &= ~other & (points[1] > ENTORHINAL_FRONT_MM) & (points[2] < ENTORHINAL_TOP_MM)
    labels = np.zeros(template.image.shape, dtype=np.uint8)
    for name, region in (("hippocampus", hippocampus), ("entorhinal", entorhinal)):
        kept = _trim(region, template)
        labels[kept] = REGIONS[f"{name}_left"]
        labels[np.flip(kept, axis=0)] = REGIONS[f"{name}_right"]
    return nib.Nifti1Image(labels, template.affine)


def _one_side(share: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The left half of a two-sided map, averaged with the mirrored right half and cut at one half; (X, Y, Z) bool."""
    return ((share + np.flip(share, axis=0)) / 2 >= 0.5) & left


def _trim(region: np.ndarray, template: Template) -> np.ndarray:
    """The voxels of a region that have grey-matter intensity on the template, opened by one voxel."""
    grey = (template.image > FLUID) & (template.image < WHITE)
    return ndimage.binary_opening(region & grey)


def main() -> None:
    """Write the shipped label map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("aal", type=Path)
    parser.add_argument("brodmann", type=Path)
    arguments = parser.parse_args()
    with atomic(SHIPPED) as draft:
        nib.save(derive(arguments.aal, arguments.brodmann), draft)


if __name__ == "__main__":
    main()
