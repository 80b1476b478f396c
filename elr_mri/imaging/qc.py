"""Whether a registration can be trusted: numbers, and a verdict with reasons.

The limits were set between two groups that leave a wide gap: twenty-four real scans (local correlation 0.79 to 0.88,
upright margin 0.29 to 0.38) and noise, cylinders, balls and heads whose voxels contradict their header (at most 0.49
and 0.10). `review` keeps a scan in the study and shows it to a person. Left and right cannot be told apart by anatomy
on a symmetric template: only the header knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, ndimage
from scipy.spatial.transform import Rotation

from elr_mri.imaging.affine import similarity
from elr_mri.imaging.demons import jacobian, normalise_locally
from elr_mri.imaging.grids import pull
from elr_mri.imaging.template import Template
from elr_mri.imaging.transforms import Warp

QC_SPACING_MM = 3.0


@dataclass(frozen=True)
class Limit:
    """A number's acceptable range: outside `review` a person should look, outside `fail` the scan is refused."""

    review: tuple[float, float]
    fail: tuple[float, float]
    words: str


LIMITS = {
    "mask_dice": Limit((0.90, 1.0), (0.80, 1.0), "overlap of the brain with the template's"),
    "correlation_affine": Limit(
        (0.55, 1.0), (0.40, 1.0), "correlation with the template inside the brain, after the affine"
    ),
    "correlation_warped": Limit(
        (0.68, 1.0), (0.50, 1.0), "correlation with the template inside the brain, after the warp"
    ),
    "local_correlation": Limit((0.70, 1.0), (0.55, 1.0), "local correlation with the template after the warp"),
    "upright_margin": Limit(
        (0.20, 2.0), (0.05, 2.0), "correlation upright less the best of upside-down and back-to-front"
    ),
    "rotation_degrees": Limit((0.0, 45.0), (0.0, 90.0), "rotation against the header, degrees"),
    "brain_litres": Limit((0.85, 2.0), (0.6, 2.5), "volume of the brain mask, litres"),
    "scale": Limit((0.75, 1.33), (0.6, 1.6), "size relative to the template, per axis"),
    "jacobian_min": Limit((0.05, 10.0), (-0.5, 10.0), "smallest local volume ratio of the warp"),
    "jacobian_folded": Limit((0.0, 0.001), (0.0, 0.02), "share of the brain that is folded by the warp"),
}


def numbers(
    template: Template, brain: np.ndarray, mask: np.ndarray, affine: np.ndarray, matrix: np.ndarray, warp: Warp
) -> dict[str, float]:
    """The numbers of `LIMITS` for one registered scan.

    Parameters
    ----------
    brain, mask : (X, Y, Z) float32 and bool, native; `affine` (4, 4) their voxels to RAS+ mm
    matrix, warp : template to native
    """
    grid = template.brain_grid(QC_SPACING_MM)
    still = template.image_on(grid)
    inside = template.mask_on(grid) > 0.5
    moved, moved_mask = (pull(volume, affine, grid, matrix) for volume in (brain, mask.astype(np.float32)))
    fine = warp.onto(grid)
    warped = fine.carry(moved)
    local = normalise_locally(still, radius=3), normalise_locally(warped, radius=3)
    growth = jacobian(fine.voxels())[inside]
    turn, stretch = linalg.polar(matrix[:3, :3])
    upright = similarity(still, moved, inside)
    return {
        "mask_dice": dice(moved_mask > 0.5, inside),
        "correlation_affine": upright,
        "correlation_warped": similarity(still, warped, inside),
        "local_correlation": similarity(*local, inside),
        "upright_margin": upright - max(_flipped(still, moved, inside, axis) for axis in (1, 2)),
        "rotation_degrees": float(np.degrees(Rotation.from_matrix(turn).magnitude())),
        "brain_litres": float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1e6),
        "scale": float(max(np.linalg.eigvalsh(stretch), key=lambda s: abs(np.log(max(s, 1e-6))))),
        "jacobian_min": float(growth.min()),
        "jacobian_max": float(growth.max()),
        "jacobian_folded": float((growth <= 0).mean()),
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice overlap of two masks; 0 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 0.0


def _flipped(still: np.ndarray, moved: np.ndarray, inside: np.ndarray, axis: int) -> float:
    """Correlation with the template when the scan is turned over along `axis` about the brain's centre."""
    centre = np.flatnonzero(inside.any(axis=tuple(k for k in range(3) if k != axis)))
    shift = np.zeros(3)
    shift[axis] = (centre[0] + centre[-1]) - (still.shape[axis] - 1)
    turned = ndimage.shift(np.flip(moved, axis), shift, order=0)
    return similarity(still, turned, inside)


def verdict(found: dict[str, float]) -> tuple[str, list[str]]:
    """pass, review or fail, and a reason for every number outside its limits."""
    state, reasons = "pass", []
    for name, limit in LIMITS.items():
        value = found[name]
        for level in ("fail", "review"):
            low, high = getattr(limit, level)
            if not low <= value <= high:
                state = level if state != "fail" else state
                reasons.append(f"{limit.words} {value:.3g} outside {low:g} to {high:g}")
                break
    return state, reasons
