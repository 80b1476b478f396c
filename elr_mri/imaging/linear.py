"""Scans that came registered linearly to MNI space: how `convert` tells, and how their volumes become native.

The `space-` entity of the file name says so (`scans.imagepath`). Clinica's t1-linear leaves the transform beside the image,
`…_affine.mat`. ITK stores the map of points from the template to the native scan (images are pulled), so that a volume
in native mm³ is the volume in template mm³ times the determinant of the matrix in the file; equivalently, divided by
the determinant of the map from native to template.

The MNI152 templates share the millimetres of the ICBM 152 average. The affine motion left between the two farthest of
them, FSL's `MNI152NLin6Asym` and our default `MNI152NLin2009aSym`, is 1.4 mm on average and 2.6 mm at most over the brain
by the affine registration of this package: less than a linear registration leaves between two people. So the map
between them is taken as the identity, and the warp takes up the rest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from elr_mri.errors import BadInput
from elr_mri.imaging.transforms import read_affine
from elr_mri.scans.imagepath import MNI_SPACES, space_of, split_member

#: Native mm³ for each mm³ of template space: heads are 0.5 to 1.1 times the template; beyond this it is another file.
RATIOS = (0.3, 2.0)


def registered_to(source: str) -> dict:
    """What is known of a scan that lies in MNI space already; empty for a native scan.

    Returns
    -------
    dict
        `space` (`MNI152NLin2009cSym`), `native_per_space_volume` (float, or None where it is unknown) and `native_note`.
    """
    path, member = split_member(source)
    space = space_of(source)
    if space not in MNI_SPACES:
        return {}
    ratio, note = (None, "no affine.mat beside the scan") if member else _native_ratio(path)
    return {"space": space, "native_per_space_volume": ratio, "native_note": note}


def _native_ratio(path: Path) -> tuple[float | None, str]:
    """Native mm³ for each mm³ of the registered image, and where that is told, or why it is unknown."""
    start, stem = path.name.split("_space-")[0], path.name.split("_T1w")[0].replace("_desc-Crop", "")
    try:
        names = [p.name for p in path.parent.iterdir() if p.name.startswith(start) and p.name.endswith("affine.mat")]
    except OSError:
        names = []
    name = f"{stem}_affine.mat" if f"{stem}_affine.mat" in names else names[0] if len(names) == 1 else None
    if name is None:
        return None, f"{len(names)} affine.mat beside the scan, none of its own" if names else "no affine.mat beside it"
    try:
        ratio = float(abs(np.linalg.det(read_affine(path.parent / name)[:3, :3])))
    except BadInput as problem:
        return None, f"{name}: {problem.got}"
    if not RATIOS[0] <= ratio <= RATIOS[1]:
        return None, f"{name}: a volume ratio of {ratio:.3g} is none of a head"
    return round(ratio, 6), name
