"""Which region each voxel of the study grid belongs to: what saliency is summed over.

The regions of `measure.labels` first, then those of an atlas that the study names, then the rest of the brain. A voxel
belongs to a region that fills more than half of it; outside the brain it is 0.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import Measure, Regions, Register
from elr_mri.errors import BadInput
from elr_mri.imaging.bridge import labels_on
from elr_mri.imaging.grids import Grid, pull
from elr_mri.imaging.labels import REGIONS
from elr_mri.imaging.template import brain_template
from elr_mri.provenance import atomic, digest_file, record
from elr_mri.scans.saliency import REST, SEGMENTS
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["regions"]


def regions(settings: Regions, register: Register, measure: Measure, out_dir: Path | str) -> None:
    """Write `regions.nii.gz` (X, Y, Z) int16 on the study grid and `regions.tsv`, which names its numbers."""
    out_dir = Path(out_dir)
    template = brain_template(register.template, register.template_mask)
    grid = template.study_grid(register.spacing_mm)
    found = labels_on(template, measure.labels)
    masks = {name: (found.volume == number, found.affine) for name, number in REGIONS.items()}
    if settings.atlas:
        masks |= of_atlas(settings)
    numbers, names = segmented(template.mask_on(grid), masks, grid)
    inside = template.mask_on(grid) > 0.5
    counts = np.bincount(numbers[inside], minlength=len(names) + 1)
    table = pd.DataFrame({"number": range(1, len(names) + 1), "region": names, "n_voxels": counts[1:]})
    SEGMENTS.write(table.assign(volume_mm3=table["n_voxels"] * grid.voxel_mm3), out_dir / "regions.tsv")
    image = nib.Nifti1Image(numbers, grid.affine)
    image.header.set_xyzt_units("mm")
    with atomic(out_dir / "regions.nii.gz") as draft:
        nib.save(image, draft)
    inputs = {"atlas": digest_file(settings.atlas)} if settings.atlas else {}
    told = {"regions": settings.model_dump(mode="json"), "labels": measure.labels, "spacing_mm": register.spacing_mm}
    record(out_dir / "regions.nii.gz", step="regions", version=VERSION, inputs=inputs, settings=told)


def segmented(
    brain: np.ndarray, masks: dict[str, tuple[np.ndarray, np.ndarray]], grid: Grid
) -> tuple[np.ndarray, list[str]]:
    """The number of each voxel's region, (X, Y, Z) int16, and the regions' names, number 1 first.

    Parameters
    ----------
    brain : (X, Y, Z) float
        Share of each voxel of `grid` that is brain.
    masks : region to ((X', Y', Z') bool, (4, 4) affine)
        In template space; of two that claim a voxel the first has it.
    """
    numbers = np.zeros(grid.shape, dtype=np.int16)
    for number, (mask, affine) in enumerate(masks.values(), start=1):
        share = pull(mask.astype(np.float32), affine, grid)
        numbers[(share > 0.5) & (numbers == 0)] = number
    numbers[(brain > 0.5) & (numbers == 0)] = len(masks) + 1
    return numbers, [*masks, REST]


def of_atlas(settings: Regions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The masks of the study's own atlas, by the names that the config gives its numbers."""
    path = Path(settings.atlas)
    if not path.is_file():
        raise BadInput(
            expected="a label map in template space",
            got="no such file",
            where=f"{path} (config, key regions.atlas)",
            fix="Check the path.",
        )
    image = nib.as_closest_canonical(nib.load(path))
    volume, affine = np.asarray(image.dataobj), np.asarray(image.affine)
    masks = {}
    for name, number in settings.numbers.items():
        wanted = number if isinstance(number, tuple) else (number,)
        mask = np.isin(volume, wanted)
        if not mask.any():
            raise BadInput(
                expected=f"voxels of {name}, number {', '.join(map(str, wanted))}",
                got="none",
                where=f"{path} (config, key regions.numbers)",
                fix="Check the numbers against the atlas's own table.",
            )
        masks[name] = mask, affine
    return masks
