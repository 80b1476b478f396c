"""Derives the shipped label map from Colin27's AAL and Brodmann maps: run once by a maintainer, committed with its result.

    python -m elr_mri.imaging.derive_labels AAL.nii.gz BRODMANN.nii.gz

with `aal.nii.gz` and `brodmann.nii.gz` of Debian's `mricron-data` (see `elr_mri/data/README.md`). Colin27's brain is registered
to the default template as any scan is, only finer; the labels follow, and are trimmed to what is tissue of the right kind on
the template, because atlas labels of AAL are drawn generously.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from elr_mri.config import Register
from elr_mri.imaging.brain import largest
from elr_mri.imaging.grids import Grid, at
from elr_mri.imaging.labels import REGIONS, SHIPPED
from elr_mri.imaging.register import align
from elr_mri.imaging.template import MNI, brain_template, head_template
from elr_mri.imaging.transforms import to_native
from elr_mri.provenance import atomic

#: Sources: the map, and its numbers (AAL: Tzourio-Mazoyer et al., NeuroImage 15, 2002; Brodmann areas 28 and 34).
SOURCES = {
    "hippocampus_left": ("aal", (37,)),
    "hippocampus_right": ("aal", (38,)),
    "entorhinal_left": ("brodmann", (28, 34)),
    "entorhinal_right": ("brodmann", (28, 34)),
}

#: Template intensity as a share of white matter's: below is fluid, above is white matter.
FLUID, WHITE = 0.55, 0.92

SETTINGS = Register(
    syn_spacing_mm=2.0, syn_iterations=(30, 25, 20), detail_spacing_mm=1.0, detail_iterations=30, affine_spacing_mm=3.0,
)
