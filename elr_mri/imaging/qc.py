"""Whether a scan and its registration can be trusted: numbers, and a verdict with reasons.

The limits lie in the gaps between two groups. Good: the real T1 heads and brains at hand (1 and 2 mm, seven sources)
and coarse phantoms at 4 mm. Bad: noise, balls, a fruit, a cylinder; real T2, PD and FLAIR heads, and T2, PD and FLAIR made
from T1; heads and brains of which a half is cut off (six sides, cropped or zero-filled); heads whose voxels contradict
their header. Every number of the good, and those that each bad group shows worst:

    number             good            bad
    cut_cm2            at most 1.6     halves at least 55
    local_correlation  at least 0.79   at most 0.52; halves 0.67, a FLAIR made from T1 0.71
    upright_margin     at least 0.29   upside-down, back-to-front, noise, balls, halves at most 0.12
    white_over_grey    at least 1.25   FLAIR and PD at most 1.07, T2 1.14
    joint_variation    at most 0.72    other contrasts, noise and balls at least 1.9
    air, noise         at most 0.06    noise 0.25 to 0.5

At 4 mm partial volume lowers `white_over_grey` to 1.12 and raises `joint_variation` to 1.2. `review` keeps a scan in
the study and shows it to a person. Left and right cannot be told apart by anatomy on a symmetric template: only the
header knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, ndimage
from scipy.spatial.transform import Rotation

from elr_mri.imaging.affine import similarity
from elr_mri.imaging.coverage import coverage
from elr_mri.imaging.demons import jacobian, normalise_locally
from elr_mri.imaging.grids import pull
from elr_mri.imaging.picture import level
from elr_mri.imaging.template import Template
from elr_mri.imaging.transforms import Warp

QC_SPACING_MM = 3.0

#: Percentiles of the template's intensities in the brain between which a voxel is deep white matter, cortex or fluid,
#: and the width (σ) over which intensities are compared.
NEARBY_MM = 15.0
TISSUES = {"white": (86, 99), "grey": (20, 42), "fluid": (0, 4)}


@dataclass(frozen=True)
class Limit:
    """A number's acceptable range: outside `review` a person should look, outside `fail` the scan is refused."""

    review: tuple[float, float]
    fail: tuple[float, float]
    words: str


LIMITS = {
    "covered": Limit((0.97, 1.0), (0.85, 1.0), "share of the template's brain that the scan covers"),
    "cut_cm2": Limit((0.0, 15.0), (0.0, 45.0), "area of brain on an edge of the field of view, cm²"),
    "mask_dice": Limit((0.90, 1.0), (0.80, 1.0), "overlap of the brain with the template's"),
    "correlation_affine": Limit(
        (0.55, 1.0), (0.40, 1.0), "correlation with the template inside the brain, after the affine"
    ),
    "correlation_warped": Limit(
        (0.68, 1.0), (0.50, 1.0), "correlation with the template inside the brain, after the warp"
    ),
    "local_correlation": Limit((0.70, 1.0), (0.60, 1.0), "local correlation with the template after the warp"),
    "upright_margin": Limit(
        (0.22, 2.0), (0.15, 2.0), "correlation upright less the best of upside-down and back-to-front"
    ),
    "white_over_grey": Limit((1.12, 3.5), (1.08, 6.0), "white matter over grey matter"),
    "grey_over_fluid": Limit((1.20, 100.0), (1.05, 100.0), "grey matter over fluid"),
    "joint_variation": Limit((0.0, 1.2), (0.0, 1.6), "joint variation of white and grey matter over their difference"),
    "air": Limit((0.0, 0.15), (0.0, 0.35), "darkest twentieth of the scan over white matter"),
    "noise": Limit((0.0, 0.12), (0.0, 0.25), "noise over white matter"),
    "rotation_degrees": Limit((0.0, 45.0), (0.0, 90.0), "rotation against the header, degrees"),
    "brain_litres": Limit((0.85, 2.0), (0.6, 2.5), "volume of the brain mask, litres"),
    "scale": Limit((0.75, 1.33), (0.6, 1.6), "size relative to the template, per axis"),
    "jacobian_min": Limit((0.05, 10.0), (-0.5, 10.0), "smallest local volume ratio of the warp"),
    "jacobian_max": Limit((0.0, 8.0), (0.0, 20.0), "largest local volume ratio of the warp"),
    "jacobian_folded": Limit((0.0, 0.001), (0.0, 0.02), "share of the brain that is folded by the warp"),
}


def numbers(
    template: Template,
    volume: np.ndarray,
    brain: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    warp: Warp,
) -> dict[str, float]:
    """The numbers of `LIMITS` for one registered scan.

    Parameters
    ----------
    volume, brain, mask : (X, Y, Z) float32, float32 and bool
        The native scan, its bare brain (white matter about 1) and brain mask; `affine` (4, 4) their voxels to RAS+ mm.
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
        **coverage(template, volume, mask, affine, matrix),
        **tissue(still, warped, fine.carry(moved_mask), inside),
        **signal(volume, brain, mask),
    }


def tissue(still: np.ndarray, warped: np.ndarray, seen: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """What tells a T1 from another contrast: the median of the scan where the template is white, grey or fluid.

    Tissues are bands of the template's own intensities inside the brain (`TISSUES`), so that any T1 template serves.
    Intensities are taken relative to their mean nearby (`NEARBY_MM`), so that what is left of a bias field does not
    count. `joint_variation` is the coefficient of joint variation of white and grey matter (Ganzetti et
    al., Front Neuroinform 10, 2016).
    """
    held = inside & (seen > 0.9)
    core = ndimage.binary_erosion(inside, iterations=2)
    deep = core & held
    nearby = [ndimage.gaussian_filter(part * held, NEARBY_MM / QC_SPACING_MM) for part in (warped, np.float32(1))]
    warped = warped * nearby[1] / np.maximum(nearby[0], 1e-6)
    bands = tissue_bands(still, inside, core)
    found = {name: warped[deep & (still >= low) & (still <= high)] for name, (low, high) in bands.items()}
    if min(values.size for values in found.values()) < 30:
        return {"white_over_grey": 0.0, "grey_over_fluid": 0.0, "joint_variation": 99.0}
    middle = {name: float(np.median(values)) for name, values in found.items()}
    spread = {name: float(np.median(np.abs(values - middle[name]))) * 1.4826 for name, values in found.items()}
    return {
        "white_over_grey": middle["white"] / max(middle["grey"], 0.01),
        "grey_over_fluid": middle["grey"] / max(middle["fluid"], 0.01),
        "joint_variation": min((spread["white"] + spread["grey"]) / max(middle["white"] - middle["grey"], 1e-3), 99.0),
    }


def tissue_bands(still: np.ndarray, inside: np.ndarray, core: np.ndarray) -> dict[str, np.ndarray]:
    """The template's lowest and highest intensity of each tissue; within `core` alone where the dark rim of a template
    (a brain with a wide mask) would take the fluid's place."""
    for where in (inside, core):
        bands = {name: np.percentile(still[where], band) for name, band in TISSUES.items()}
        if all(np.count_nonzero((still[core] >= low) & (still[core] <= high)) >= 100 for low, high in bands.values()):
            break
    return bands


def signal(volume: np.ndarray, brain: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """`air`: how bright the darkest twentieth of the scan is, `noise`: the deviation of noise in the brain, both as
    shares of white matter.

    Noise is the median absolute value of the finest diagonal wavelet, over 0.6745 (Donoho, Johnstone. Biometrika 81,
    1994; Coupé et al., Med Image Anal 14, 2010, for MRI), which anatomy hardly reaches.
    """
    white = level(volume, brain)
    fine = np.where(mask, volume, np.nan)[tuple(slice(0, n // 2 * 2) for n in volume.shape)]
    for axis in range(3):
        pairs = fine.reshape(*fine.shape[:axis], -1, 2, *fine.shape[axis + 1 :])
        fine = (pairs.take(0, axis + 1) - pairs.take(1, axis + 1)) / np.sqrt(2)
    fine = np.abs(fine[np.isfinite(fine)])
    return {
        "air": float(np.percentile(volume[::2, ::2, ::2], 5)) / white,
        "noise": float(np.median(fine)) / 0.6745 / white if fine.size else 99.0,
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
    """pass, review or fail, and a reason for every number outside its limits, those that fail it first."""
    reasons: dict[str, list[str]] = {"fail": [], "review": [], "pass": []}
    for name, limit in LIMITS.items():
        state = outside(name, found[name])
        if state != "pass":
            low, high = getattr(limit, state)
            reasons[state].append(f"{limit.words} {found[name]:.3g} outside {low:g} to {high:g}")
    worst = next((state for state in ("fail", "review") if reasons[state]), "pass")
    return worst, reasons["fail"] + reasons["review"]


def outside(name: str, value: float) -> str:
    """The limits of a number that `value` is outside of: fail, review, or pass for neither."""
    for worse in ("fail", "review"):
        low, high = getattr(LIMITS[name], worse)
        if not low <= value <= high:
            return worse
    return "pass"


def slack(found: dict[str, float]) -> float:
    """How far the worst number is inside its limits: 0 at the edge of `review`, -1 at that of `fail`; for sorting."""
    told = [np.inf]
    for name in LIMITS.keys() & found.keys():
        (low, high), (fail_low, fail_high) = LIMITS[name].review, LIMITS[name].fail
        if not np.isfinite(found[name]):
            return -np.inf
        told.append((high - found[name]) / (fail_high - high) if fail_high > high else np.inf)
        told.append((found[name] - low) / (low - fail_low) if low > fail_low else np.inf)
    return float(min(told))
