"""The atlases of a study: scans with manual labels, registered to the template once, for every scan to use.

A folder of pairs, `NAME_T1.nii.gz` with `NAME_labels.nii.gz` (or other endings, by config), in the numbers of any
labelling protocol; the config tells which number is which region. Nothing of them ships with the package.
"""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.config import Atlases, Register
from elr_mri.errors import BadInput
from elr_mri.imaging import qc
from elr_mri.imaging.fusion import SIDES, Atlas
from elr_mri.imaging.grids import Grid
from elr_mri.imaging.labels import REGIONS
from elr_mri.imaging.register import NoBrain, align
from elr_mri.imaging.template import brain_template
from elr_mri.imaging.transforms import Warp, read_affine, read_warp, to_template, write_affine, write_warp
from elr_mri.imaging.warp import inverse
from elr_mri.provenance import atomic, digest_file, is_current, outdate, read_json, record, write_json
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["atlases"]

#: Room in mm kept around the labels of an atlas when its image is cropped.
CROP_MM = 20.0


def atlases(settings: Atlases, register: Register, out_dir: Path | str) -> None:
    """Register every atlas of the folder to the template, as scans are; writes `out_dir/<atlas>/…` and `out_dir/atlases.json`.

    Raises `BadInput` where an atlas lacks its partner, its regions or its registration fails: a study must not go on
    with fewer voters than its config says.
    """
    pairs, out_dir = find(settings), Path(out_dir)
    print(f"atlases: {len(pairs)} in {settings.path}", flush=True)
    told = []
    for k, (name, (image, labels)) in enumerate(sorted(pairs.items()), start=1):
        began = time.perf_counter()
        told.append({"atlas": name} | prepare(name, image, labels, settings, register, out_dir / name))
        print(f"atlases {k}/{len(pairs)} {name}: {told[-1]['status']}, {time.perf_counter() - began:.1f} s", flush=True)
    write_json(out_dir / "atlases.json", {"template": register.template, "atlases": told})


def find(settings: Atlases) -> dict[str, tuple[Path, Path]]:
    """The pairs of image and labels in the atlas folder, by name."""
    if settings.path is None:
        raise BadInput(
            expected="a folder of labelled scans",
            got="none",
            where="config, key atlases.path",
            fix="Name it, or choose another measure.source than fusion.",
        )
    folder = Path(settings.path)
    ends = {"image": settings.image_ends, "labels": settings.labels_ends}
    found = {
        kind: {path.name.removesuffix(end): path for path in sorted(folder.glob(f"*{end}"))}
        for kind, end in ends.items()
    }
    alone = sorted(set(found["image"]) ^ set(found["labels"]))
    if not found["image"] or alone:
        raise BadInput(
            expected=f"pairs of NAME{ends['image']} and NAME{ends['labels']}",
            got=f"{', '.join(alone)} without a partner" if alone else "none",
            where=f"{folder} (config, key atlases.path)",
            fix="Check the folder, atlases.image_ends and atlases.labels_ends.",
        )
    return {name: (image, found["labels"][name]) for name, image in found["image"].items()}


def prepare(name: str, image: Path, labels: Path, settings: Atlases, register: Register, out_dir: Path) -> dict:
    """Register one atlas and write what fusion needs of it, cropped around its labels; returns its QC verdict."""
    files = outputs(name, register)
    inputs = {"image": digest_file(image), "labels": digest_file(labels)}
    provenance = {
        "step": "atlases",
        "version": VERSION,
        "inputs": inputs,
        "settings": {"numbers": settings.numbers, "register": register.model_dump(mode="json")},
    }
    if (out_dir / files["qc"]).exists() and is_current(out_dir / files["image"], **provenance):
        return read_json(out_dir / files["qc"])
    scan, labelled = (nib.as_closest_canonical(nib.load(path)) for path in (image, labels))
    if scan.shape != labelled.shape or not np.allclose(scan.affine, labelled.affine, atol=1e-2):
        raise BadInput(
            expected=f"the grid of {image.name}",
            got=f"shape {labelled.shape}, or another affine",
            where=str(labels),
            fix="Resample the labels to their image, nearest neighbour.",
        )
    regions = renumber(np.asarray(labelled.dataobj), settings.numbers, where=str(labels))
    template = brain_template(register.template)
    volume = np.asarray(scan.dataobj, dtype=np.float32)
    try:
        found = align(volume, np.asarray(scan.affine), template, register)
    except (NoBrain, np.linalg.LinAlgError) as problem:
        raise _unfit(str(problem), image) from problem
    numbers = qc.numbers(template, volume, found.brain, found.mask, found.affine, found.matrix, found.warp)
    status, reasons = qc.verdict(numbers)
    if status == "fail":
        raise _unfit("; ".join(reasons), image)
    corner, cut = _crop(regions, found.affine)
    moved = found.affine.copy()
    moved[:3, 3] += moved[:3, :3] @ corner
    outdate(out_dir / files["image"])
    _save(out_dir / files["labels"], regions[cut], moved)
    write_affine(out_dir / files["affine"], found.matrix)
    write_warp(out_dir / files["warp"], found.warp)
    told = {"status": status, "reason": "; ".join(reasons), "files": files}
    _save(out_dir / files["image"], found.brain[cut], moved)
    write_json(out_dir / files["qc"], told)
    record(out_dir / files["image"], **provenance)
    return told


def outputs(name: str, register: Register) -> dict[str, str]:
    """Names of the files of one prepared atlas."""
    space = brain_template(register.template).id
    return {
        "image": f"{name}_desc-brain_T1w.nii.gz",
        "labels": f"{name}_dseg.nii.gz",
        "affine": f"{name}_from-T1w_to-{space}_affine.mat",
        "warp": f"{name}_from-T1w_to-{space}_warp.nii.gz",
        "qc": f"{name}_space-{space}_qc.json",
    }


def renumber(volume: np.ndarray, numbers: dict[str, int | tuple[int, ...]], *, where: str) -> np.ndarray:
    """A label map in the numbers of `labels.REGIONS`, (X, Y, Z) uint8; raises `BadInput` where a region is empty."""
    out = np.zeros(volume.shape, dtype=np.uint8)
    for region, number in numbers.items():
        out[np.isin(volume, number)] = REGIONS[region]
    missing = [region for region in numbers if not (out == REGIONS[region]).any()]
    if missing:
        raise BadInput(
            expected=f"the numbers of atlases.numbers ({', '.join(f'{r} {n}' for r, n in numbers.items())})",
            got=f"none of {', '.join(missing)}",
            where=where,
            fix="Correct atlases.numbers, or take the atlas out of the folder.",
        )
    return out


def read_atlases(folder: Path | str) -> tuple[Atlas, ...]:
    """The atlases that `atlases` prepared in `folder`."""
    folder = Path(folder)
    return tuple(_read(one["atlas"], folder / one["atlas"], one["files"]) for one in _told(folder)["atlases"])


def digest_atlases(folder: Path | str) -> dict[str, str]:
    """Digest of every prepared atlas, by name: of its image and labels together."""
    folder = Path(folder)
    return {
        one["atlas"]: "-".join(
            digest_file(folder / one["atlas"] / one["files"][part]) for part in ("image", "labels", "warp")
        )
        for one in _told(folder)["atlases"]
    }


def _told(folder: Path) -> dict:
    if not (folder / "atlases.json").is_file():
        raise BadInput(
            expected="prepared atlases",
            got="no atlases.json",
            where=str(folder),
            fix="Run `elr-mri atlases` first.",
        )
    return read_json(folder / "atlases.json")


def _read(name: str, folder: Path, files: dict[str, str]) -> Atlas:
    image, labels = nib.load(folder / files["image"]), nib.load(folder / files["labels"])
    return as_atlas(
        name,
        np.asarray(image.dataobj, dtype=np.float32),
        np.asarray(labels.dataobj).astype(np.uint8),
        np.asarray(image.affine),
        read_affine(folder / files["affine"]),
        read_warp(folder / files["warp"]),
    )


def as_atlas(
    name: str, brain: np.ndarray, labels: np.ndarray, affine: np.ndarray, matrix: np.ndarray, warp: Warp
) -> Atlas:
    """An atlas from its arrays; see `fusion.Atlas`."""
    back = inverse(warp)
    ends = []
    for side in SIDES:
        numbers = [number for region, number in REGIONS.items() if region.endswith(side)]
        index = np.argwhere(np.isin(labels, numbers)).T
        points = to_template(affine[:3, :3] @ index + affine[:3, 3:], matrix, back).astype(np.float32)
        ends.append((points.min(axis=1), points.max(axis=1)))
    low, high = (np.stack(corner) for corner in zip(*ends, strict=True))
    return Atlas(name, brain, labels, affine, matrix, warp, low, high)


def _crop(regions: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The first index and the slices of the part of an atlas within `CROP_MM` of its labels."""
    index = np.argwhere(regions)
    room = np.ceil(CROP_MM / Grid(regions.shape, affine).spacing_mm).astype(int)
    low = np.maximum(index.min(axis=0) - room, 0)
    high = np.minimum(index.max(axis=0) + room + 1, regions.shape)
    return low, tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _unfit(reason: str, image: Path) -> BadInput:
    return BadInput(
        expected="an atlas that can be registered", got=reason, where=str(image), fix="Take it out of the atlas folder."
    )


def _save(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    with atomic(path) as draft:
        nib.save(nib.Nifti1Image(volume, affine), draft)
