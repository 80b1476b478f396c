"""Multi-atlas label fusion in the medial temporal lobe: many manual labellings of other people vote on one scan.

The scan's own registration to the template is reused, and so is each atlas's: together they lay every atlas near the
scan. Only a box around each medial temporal lobe is then registered atlas by atlas (demons), and the atlases vote
with weights that make their expected joint error least:

Wang, Suh, Das, Pluta, Craige, Yushkevich. Multi-atlas segmentation with joint label fusion. IEEE Trans Pattern Anal
Mach Intell 35, 2013: eq. 8 (pairwise error of atlases from patch intensities), eq. 12 (weights), section 3.4 (search).

The votes are then weighed by how usual the voxel's intensity is for each label among the registered atlases (as in Fischl
et al., Neuron 33, 2002), which keeps fluid out of thin, displaced hippocampi.

Volumes are sums of the fused probabilities. Their uncertainty is the spread of the volumes that the atlases give one
by one, and the agreement the mean Dice overlap of each atlas's label with the fused one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from elr_mri.imaging.demons import demons, identity, sample
from elr_mri.imaging.grids import Grid, at, box, coarsen, pull, through
from elr_mri.imaging.labels import REGIONS
from elr_mri.imaging.qc import dice
from elr_mri.imaging.transforms import Warp, to_native, to_template
from elr_mri.imaging.warp import inverse

SIDES = ("left", "right")

#: Edge length in mm of the voxels in which atlases are registered and vote, and the room around the labels.
SPACING_MM, MARGIN_MM = 1.0, 8.0
#: Registration of an atlas to the scan inside the box: block size in voxels and iterations, coarse to fine.
LEVELS = ((4, 15), (2, 15), (1, 15))
UPDATE_SIGMA, TOTAL_SIGMA, WINDOW_RADIUS = 1.0, 0.5, 2

#: Joint label fusion: half-width of a patch and of the search for its best place, in voxels; the regularisation α of the
#: atlases' error matrix (Wang et al., section 3.3), for differences in units of `CONTRAST` (white matter is 1).
PATCH_RADIUS, SEARCH_RADIUS, ALPHA, CONTRAST = 2, 1, 0.1, 0.15
#: Weight of the intensity's likelihood: tempered, because the patches have used the intensities already.
LIKELIHOOD_POWER, BINS = 0.5, 32
#: Voxels weighed at a time; bounds the memory.
CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled scan registered to the template.

    `brain` (X, Y, Z) float32 and `labels` (X, Y, Z) uint8 with the numbers of `REGIONS`, native, `affine` (4, 4) their
    voxels to RAS+ mm; `matrix` (4, 4) and `warp` carry template mm to native mm. `low_mm`, `high_mm` (2, 3): corners of
    the box in template mm that holds the labels of each side.
    """

    name: str
    brain: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    matrix: np.ndarray
    warp: Warp
    low_mm: np.ndarray
    high_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class Fused:
    """One region of one scan after fusion.

    `posterior` (X, Y, Z) float32 in 0..1 and `label` (X, Y, Z) bool on `grid` (native mm); `volume_mm3`; `sd_mm3`, the
    standard deviation of the atlases' own volumes; `agreement`, the mean Dice of the atlases' labels with the fused one.
    """

    grid: Grid
    posterior: np.ndarray
    label: np.ndarray
    volume_mm3: float
    sd_mm3: float
    agreement: float


def fuse(
    volume: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    warp: Warp,
    atlases: Sequence[Atlas],
    *,
    mirror: bool = False,
) -> dict[str, Fused]:
    """Fuse the labels of `atlases` on a scan.

    Parameters
    ----------
    volume : (X, Y, Z) float32
        Native brain, 0 outside; intensities in any unit, a bias field does no harm. `affine` (4, 4): its voxels to RAS+ mm.
    matrix, warp : (4, 4), Warp
        The scan's registration: template to native mm, and the displacement before it.
    mirror : bool
        Let each atlas vote a second time, mirrored about the template's midsagittal plane. Only for a symmetric
        template; doubles the time.

    Returns
    -------
    dict
        Region to `Fused`, for the regions that the atlases label.
    """
    regions = labelled_regions(atlases)
    back = inverse(warp)
    found: dict[str, Fused] = {}
    for side in SIDES:
        mine = [region for region in regions if region.endswith(side)]
        if not mine:
            continue
        grid = _box(Grid(volume.shape, affine), matrix, warp, atlases, side)
        target = pull(volume, affine, grid)
        there = to_template(grid.points(), matrix, back)
        pairs = [
            carry(atlas, target, grid, there, mine, mirrored=mirrored)
            for atlas in atlases
            for mirrored in ((False, True) if mirror else (False,))
        ]
        images, shares = np.stack([image for image, _ in pairs]), np.stack([share for _, share in pairs])
        target = matched(target, images)
        posterior = tempered(target, images, shares, joint_fusion(target, images, shares))
        found |= _summarise(mine, grid, posterior, shares)
    return found


def label_map(found: dict[str, Fused], native: Grid) -> np.ndarray:
    """The fused labels on the scan's own grid, (X, Y, Z) uint8 with the numbers of `REGIONS`: at each voxel the most
    probable region, background included."""
    out = np.zeros(native.shape, dtype=np.uint8)
    best = np.full(native.shape, np.float32(0))
    rest = np.ones(native.shape, dtype=np.float32)
    shares = {region: pull(one.posterior, one.grid.affine, native, soft=False) for region, one in found.items()}
    for share in shares.values():
        rest -= share
    for region, share in shares.items():
        wins = (share > best) & (share > rest)
        out[wins] = REGIONS[region]
        best = np.maximum(best, share)
    return out


def labelled_regions(atlases: Sequence[Atlas]) -> tuple[str, ...]:
    """The regions that every atlas labels, in the order of `REGIONS`."""
    present = [set(np.unique(atlas.labels)) for atlas in atlases]
    return tuple(region for region, number in REGIONS.items() if all(number in numbers for numbers in present))


def carry(
    atlas: Atlas, target: np.ndarray, grid: Grid, there: np.ndarray, regions: Sequence[str], *, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """An atlas registered to the scan inside the box: its image, and its share of each region.

    Parameters
    ----------
    target : (X, Y, Z) float32, the scan on `grid`
    there : (3, X, Y, Z) template mm of every voxel of `grid`, by the scan's own registration
    mirrored : use the atlas's other side

    Returns
    -------
    (X, Y, Z) float32 and (n_regions, X, Y, Z) float32, each interpolated once from the atlas.
    """
    flip = np.array([-1 if mirrored else 1, 1, 1], dtype=np.float32)[:, None, None, None]
    native = to_native(there * flip, atlas.matrix, atlas.warp)
    moving = at(atlas.brain, atlas.affine, native, mode="constant")
    index = identity(grid.shape)
    u = np.zeros_like(index)
    for block, iterations in LEVELS:
        u = _demons(target, moving, u, block, iterations)
    moved = np.stack([sample(part, index + u) for part in native])
    shares = [
        at(
            (atlas.labels == REGIONS[_other_side(r) if mirrored else r]).astype(np.float32),
            atlas.affine,
            moved,
            mode="constant",
        )
        for r in regions
    ]
    return at(atlas.brain, atlas.affine, moved, mode="constant"), np.stack(shares)


def _demons(target: np.ndarray, moving: np.ndarray, start: np.ndarray, block: int, iterations: int) -> np.ndarray:
    """Demons on blocks of `block`³ voxels from `start`; displacements (3, X, Y, Z) in voxels of the full grid."""
    fixed, to_full = coarsen(target, np.eye(4), float(block))
    coarse = Grid(fixed.shape, to_full)
    u = np.stack([at(part, np.eye(4), coarse.points()) for part in start]) / block if block > 1 else start
    u = demons(
        fixed,
        coarsen(moving, np.eye(4), float(block))[0],
        u,
        iterations=iterations,
        update_sigma=UPDATE_SIGMA,
        total_sigma=TOTAL_SIGMA,
        window_radius=WINDOW_RADIUS,
    )
    if block == 1:
        return u
    full = identity(target.shape)
    return np.stack([at(part, to_full, full) for part in u]) * np.float32(block)


def matched(target: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The target (X, Y, Z) at the intensities of the registered atlases (n, X, Y, Z): multiplied by the linear function of
    place that brings it closest to their mean. Within the box a bias field is no more than that."""
    mean = images.mean(axis=0)
    inside = (target > 0) & (mean > 0)
    place = np.indices(target.shape, dtype=np.float32).reshape(3, *target.shape) / max(target.shape) - 0.5
    basis = np.stack([target, *(target * place)])
    factors, *_ = np.linalg.lstsq(basis[:, inside].T.astype(np.float64), mean[inside].astype(np.float64), rcond=None)
    return np.tensordot(factors.astype(np.float32), basis, axes=1)


def joint_fusion(target: np.ndarray, images: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Joint label fusion of registered atlases.

    Parameters
    ----------
    target : (X, Y, Z) float32
    images : (n_atlases, X, Y, Z) float32, registered to the target, intensities alike
    shares : (n_atlases, n_regions, X, Y, Z) float32 in 0..1, their labels

    Returns
    -------
    (n_regions, X, Y, Z) float32 in 0..1. Where the atlases are of one mind, and near the box's faces, it is their mean.
    """
    mean = shares.mean(axis=0)
    posterior = mean.reshape(len(mean), -1).copy()
    unsure = ((mean > 0) & (mean < 1)).any(axis=0)
    inner = np.zeros_like(unsure)
    rim = PATCH_RADIUS + SEARCH_RADIUS
    inner[(slice(rim, -rim),) * 3] = True
    voxels = np.flatnonzero(unsure & inner)
    patch, moves = _cube(PATCH_RADIUS, target.shape), _cube(SEARCH_RADIUS, target.shape)
    flat, votes = images.reshape(len(images), -1), shares.reshape(*shares.shape[:2], -1)
    for start in range(0, len(voxels), CHUNK):
        these = voxels[start : start + CHUNK]
        index = these[:, None] + patch
        wanted = _centred(target.ravel()[index])
        found = [_nearest(wanted, image, these, patch, moves) for image in flat]
        weights = joint_weights(np.stack([error for _, error in found], axis=1))
        labels = np.stack([vote[:, place] for vote, (place, _) in zip(votes, found, strict=True)])
        posterior[:, these] = np.einsum("vn,nrv->rv", weights, labels)
    return posterior.reshape(mean.shape)


def _nearest(
    wanted: np.ndarray, image: np.ndarray, voxels: np.ndarray, patch: np.ndarray, moves: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where an atlas looks most like each voxel's patch, (n_voxels,), and the absolute differences there, (n_voxels, n_patch)."""
    place, least, error = voxels.copy(), np.full(len(voxels), np.inf, dtype=np.float32), np.empty_like(wanted)
    for move in moves:
        difference = _centred(image[voxels[:, None] + (patch + move)]) - wanted
        size = np.einsum("vp,vp->v", difference, difference)
        better = size < least
        place[better], least[better], error[better] = voxels[better] + move, size[better], difference[better]
    return place, np.abs(error)


def joint_weights(error: np.ndarray) -> np.ndarray:
    """The atlases' weights at each voxel: those of least expected joint error (Wang et al., eq. 12), none negative.

    error : (n_voxels, n_atlases, n_patch) absolute intensity differences. Returns (n_voxels, n_atlases), each row's sum 1.
    """
    together = error @ error.transpose(0, 2, 1) / error.shape[2]
    n = error.shape[1]
    weights = np.linalg.solve(together + ALPHA * np.eye(n, dtype=np.float32), np.ones((n, 1), dtype=np.float32))[..., 0]
    weights = np.maximum(weights, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def tempered(target: np.ndarray, images: np.ndarray, shares: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """The posterior (n_regions, X, Y, Z) times each label's likelihood of the voxel's intensity, to a power, normalised.

    The likelihoods are histograms over the registered atlases, wherever one of them has a label.
    """
    near = shares.any(axis=(0, 1))
    if not near.any():
        return posterior
    edges = np.linspace(0, np.percentile(images[:, near], 99.9), BINS + 1)
    which = np.clip(np.digitize(target, edges) - 1, 0, BINS - 1)
    classes = np.concatenate([1 - posterior.sum(axis=0, keepdims=True), posterior])
    given = np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1)
    for k in range(len(classes)):
        counts, _ = np.histogram(images[:, near], bins=edges, weights=given[:, k][:, near])
        smooth = ndimage.gaussian_filter1d(counts, 1.0) + 1e-3 * counts.mean() + 1e-9
        classes[k] *= ((smooth / smooth.sum()) ** LIKELIHOOD_POWER).astype(np.float32)[which]
    return (classes / classes.sum(axis=0, keepdims=True))[1:]


def _cube(radius: int, shape: tuple[int, ...]) -> np.ndarray:
    """Offsets in a flat array of `shape` to the voxels of a cube, nearest first."""
    steps = sorted(itertools.product(range(-radius, radius + 1), repeat=3), key=lambda step: np.dot(step, step))
    return np.array(steps) @ np.array([shape[1] * shape[2], shape[2], 1])


def _centred(patches: np.ndarray) -> np.ndarray:
    """Patches (…, n_patch) less their mean, in units of `CONTRAST`."""
    return (patches - patches.mean(axis=-1, keepdims=True)) / np.float32(CONTRAST)


def _box(native: Grid, matrix: np.ndarray, warp: Warp, atlases: Sequence[Atlas], side: str) -> Grid:
    """The isotropic grid along the scan's own axes that holds every atlas's labels of a side, as they lie on the scan.

    At 1 mm scans it is the scan's own voxels, so that nothing of the scan is interpolated.
    """
    k = SIDES.index(side)
    low = np.min([atlas.low_mm[k] for atlas in atlases], axis=0)
    high = np.max([atlas.high_mm[k] for atlas in atlases], axis=0)
    around = to_native(box(tuple(low), tuple(high), 4.0).points(), matrix, warp)
    ratio = native.spacing_mm / SPACING_MM
    ratio = np.where(np.abs(ratio - 1) < 0.02, 1, ratio)
    fine = native.affine @ np.diag([*(1 / ratio), 1])
    index = through(np.linalg.inv(fine), around).reshape(3, -1)
    last = np.round((np.array(native.shape) - 1) * ratio).astype(int)
    first = np.clip(np.floor(index.min(axis=1) - MARGIN_MM).astype(int), 0, last)
    stop = np.clip(np.ceil(index.max(axis=1) + MARGIN_MM).astype(int) + 1, 0, last + 1)
    fine[:3, 3] += fine[:3, :3] @ first
    return Grid(tuple(int(n) for n in stop - first), fine)


def _summarise(regions: Sequence[str], grid: Grid, posterior: np.ndarray, shares: np.ndarray) -> dict[str, Fused]:
    """Volumes, spread and agreement of the fused regions of one side."""
    winner = np.concatenate([1 - posterior.sum(axis=0, keepdims=True), posterior]).argmax(axis=0)
    found = {}
    for k, region in enumerate(regions):
        label = winner == k + 1
        single = shares[:, k].sum(axis=(1, 2, 3)) * grid.voxel_mm3
        found[region] = Fused(
            grid=grid,
            posterior=posterior[k],
            label=label,
            volume_mm3=float(posterior[k].sum()) * grid.voxel_mm3,
            sd_mm3=float(single.std(ddof=1)) if len(single) > 1 else float("nan"),
            agreement=float(np.mean([dice(share > 0.5, label) for share in shares[:, k]])),
        )
    return found


def _other_side(region: str) -> str:
    """The same region on the other side."""
    name, _, side = region.rpartition("_")
    return f"{name}_{'right' if side == 'left' else 'left'}"
