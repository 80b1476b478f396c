"""Saliency by region: what share of the maps lies where, for each scan and for all together, and how sure that is.

Everything is counted over the brain that reaches the network: the central crop's voxels of the brain that vary between the
training scans. A region's ratio is its share of the maps' magnitude by its share of that brain's voxels: 1 is no preference,
and the crop's edge and the background cannot make one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage, stats

from elr_mri.errors import BadInput
from elr_mri.imaging.labels import TOTALS
from elr_mri.learning.attribution import crop_box
from elr_mri.learning.checkpoint import Model
from elr_mri.scans.saliency import AGGREGATE, ALL, AROUND, LOBES, REST, SEGMENTS, SINGLE
from elr_mri.scans.table import CLASSES

#: Subjects are dealt into so many groups: aggregates without each of them tell how sure the aggregate is.
N_GROUPS = 10
#: Draws of subjects for the intervals of single maps, and the intervals' level.
DRAWS, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Parts:
    """What is looked at and counted, within a box of the packed grid: maps are held there alone, so that memory follows the crop and not the grid.

    seen : (X, Y, Z) bool, the voxels that are counted; reached : (X, Y, Z) bool, those that reach the network, brain or not
    regions : name to indices into the seen voxels, flat
    """

    seen: np.ndarray
    reached: np.ndarray
    regions: dict[str, np.ndarray] = field(default_factory=dict)

    def counted(self, maps: np.ndarray) -> np.ndarray:
        """Maps (..., n_channels, X, Y, Z) as magnitudes of the counted voxels, summed over channels: (..., n_voxels)."""
        return np.abs(maps[..., self.seen]).sum(axis=-2)

    def shares(self, counted: np.ndarray) -> np.ndarray:
        """(..., n_voxels) → (..., n_regions): each region's share of the sum."""
        total = np.maximum(counted.sum(axis=-1), np.finfo(np.float32).tiny)
        return np.stack([counted[..., index].sum(axis=-1) / total for index in self.regions.values()], axis=-1)

    @property
    def volumes(self) -> np.ndarray:
        """(n_regions,): each region's share of the counted voxels."""
        return np.array([len(index) for index in self.regions.values()]) / max(int(self.seen.sum()), 1)


def read_parts(folder: Path | str | None, model: Model, meta: dict[str, Any]) -> Parts:
    """The brain that reaches a model, in the box of its central crop, and its regions from the folder of `regions`; without one all that reaches it, in no regions."""
    shape = tuple(meta["shape"])
    box = crop_box(model, shape)
    seen = np.zeros(shape, dtype=bool)
    seen[box] = True
    if (informative := model.standardise.informative()) is not None:
        seen &= informative.cpu().numpy().reshape(-1, *shape).any(axis=0)
    if folder is None:
        return Parts(seen[box], seen[box])
    image = nib.load(Path(folder) / "regions.nii.gz")
    if image.shape != shape or not np.allclose(image.affine, meta["affine"], atol=1e-3):
        raise BadInput(
            expected=f"regions on the cache's grid, {shape}",
            got=f"{image.shape}, or another place",
            where=str(folder),
            fix="Run `elr-mri regions` with the study's config.",
        )
    table = SEGMENTS.read(Path(folder) / "regions.tsv")
    return parts_of(np.asarray(image.dataobj), dict(zip(table["region"], table["number"], strict=True)), seen, box)


def parts_of(numbers: np.ndarray, names: dict[str, int], reached: np.ndarray, box: tuple[slice, ...] = ()) -> Parts:
    """Regions by number, the totals of both sides, the medial temporal ones together and what lies one voxel about them.

    numbers, reached : (X, Y, Z) of the packed grid; what is reached lies in `box`
    """
    seen = reached & (numbers > 0)
    masks = {name: numbers == number for name, number in names.items() if name != REST}
    sides = {total: [masks[name] for name in pair if name in masks] for total, pair in TOTALS.items()}
    masks |= {total: np.any(found, axis=0) for total, found in sides.items() if found}
    lobes = np.any([mask for found in sides.values() for mask in found], axis=0)
    around = ndimage.binary_dilation(lobes) & ~lobes
    masks |= {LOBES: lobes, AROUND: around, REST: (numbers > 0) & ~lobes & ~around}
    kept = {name: np.flatnonzero(mask[seen]) for name, mask in masks.items()}
    return Parts(seen[box], reached[box], {name: index for name, index in kept.items() if len(index)})


def people(scans: pd.DataFrame) -> np.ndarray:
    """(n_scans,) int: whose scan each is; an id is a cohort's own, so that those of two cohorts are two people."""
    return scans.groupby(["cohort", "subject_id"]).ngroup().to_numpy()


def groups_of(persons: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n_scans,) int: each person's group, all groups about as large.

    persons : (n_scans,), as `people` tells them
    """
    names, places = np.unique(persons, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(names)) % min(N_GROUPS, len(names))
    return dealt[places]


def rows(sums: np.ndarray, masses: np.ndarray, scans: pd.DataFrame, parts: Parts, **told: str) -> list[dict[str, Any]]:
    """Lines of `SHARES` (without its model and method, which `told` has) for all scans and each class.

    Parameters
    ----------
    sums : (n_groups, n_classes, n_channels, X, Y, Z) float
        Signed maps of each group's scans of each class, summed.
    masses : (n_scans, n_regions) float
        Each region's share of each scan's map.
    scans : DataFrame
        cohort, subject_id and diagnosis of every scan.
    """
    lines, persons = [], people(scans)
    for name in (ALL, *CLASSES):
        mine = np.ones(len(scans), dtype=bool) if name == ALL else (scans["diagnosis"] == name).to_numpy()
        if not mine.any():
            continue
        by_group = sums.sum(axis=1) if name == ALL else sums[:, CLASSES.index(name)]
        facts = {**told, "class": name, "n_scans": int(mine.sum())}
        facts["n_subjects"] = len(np.unique(persons[mine]))
        ways = {
            AGGREGATE: jackknife(by_group, parts),
            SINGLE: resampled(masses[mine], persons[mine]),
        }
        for way, (share, low, high) in ways.items():
            for k, region in enumerate(parts.regions):
                volume = parts.volumes[k]
                line = {"way": way, "region": region, "volume_share": volume, "mass_share": share[k]}
                ratio = {"ratio": share[k] / volume, "low": low[k] / volume, "high": high[k] / volume}
                lines.append(facts | line | ratio)
    return lines


def jackknife(by_group: np.ndarray, parts: Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares (n_regions,) of the magnitude of the groups' mean map, with their interval; NaN for fewer than three groups.

    Delete-a-group jackknife of log shares (Kott, J Off Stat 2001): variance (G − 1)/G · Σ (θ₍g₎ − mean)², t with G − 1 degrees of freedom.
    """
    there = by_group[np.abs(by_group).reshape(len(by_group), -1).max(axis=1) > 0]
    whole = there.sum(axis=0)
    share, n = parts.shares(parts.counted(whole)), len(there)
    if n < 3:
        return share, np.full_like(share, np.nan), np.full_like(share, np.nan)
    tiny = np.finfo(np.float32).tiny
    without = np.log(np.maximum([parts.shares(parts.counted(whole - one)) for one in there], tiny))
    spread = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = np.exp(stats.t.ppf((1 + LEVEL) / 2, n - 1) * spread)
    return share, share / reach, share * reach


def resampled(masses: np.ndarray, persons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean shares (n_regions,) over scans, with the percentile interval over draws of people; NaN for one."""
    names, places = np.unique(persons, return_inverse=True)
    share = masses.mean(axis=0)
    if len(names) < 2:
        return share, np.full_like(share, np.nan), np.full_like(share, np.nan)
    sums, counts = np.zeros((len(names), masses.shape[1])), np.bincount(places)
    np.add.at(sums, places, masses)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    low, high = np.quantile(drawn @ sums / (drawn @ counts)[:, None], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return share, low, high


def single(masses: np.ndarray, scans: pd.DataFrame, parts: Parts, **told: str) -> pd.DataFrame:
    """Lines of `MASSES`: each scan's share in each region."""
    wide = pd.DataFrame(np.clip(masses, 0, 1), columns=list(parts.regions))
    told_of = ["scan_id", "cohort", "subject_id", "diagnosis"]
    wide = pd.concat([scans[told_of].reset_index(drop=True), wide], axis=1)
    long = wide.melt(told_of, var_name="region", value_name="mass_share")
    return long.assign(**told)
