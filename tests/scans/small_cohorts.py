"""A whole small cohort of every format, with real images, for tests to break one thing in."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE, SPACING_MM = (28, 30, 26), 4.0
VISITS = ("CN", "MCI", "AD")


@dataclass(frozen=True)
class Small:
    """One cohort on disk: its format, what `path` of the config names, its tables and its images by subject number."""

    format: str
    path: Path
    tables: dict[str, Path]
    images: list[Path]


def volume(seed: int) -> np.ndarray:
    """A different volume for each seed, (28, 30, 26) int16."""
    return np.random.default_rng(seed).integers(0, 1000, SHAPE).astype(np.int16)


def nifti(seed: int) -> nib.Nifti1Image:
    return nib.Nifti1Image(volume(seed), np.diag([SPACING_MM] * 3 + [1.0]))


def write(path: Path, rows: list[dict], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nifti(seed), path)
    return path


def adni(root: Path) -> Small:
    merge, images = [], []
    for n, dx in enumerate(VISITS):
        ptid = f"011_S_{n + 1:04d}"
        merge.append(
            {
                "RID": n + 1,
                "PTID": ptid,
                "VISCODE": "bl",
                "EXAMDATE": "2006-01-10",
                "DX": dx.replace("AD", "Dementia"),
                "AGE": 70 + n,
                "PTGENDER": "Female",
                "SITE": "Zürich",
                "EXAMDATE_bl": "2006-01-10",
            }
        )
        leaf = root / "ADNI" / ptid / "MPR__GradWarp__Scaled" / "2006-01-12_08_20_30.0" / f"S{n}"
        images.append(save(leaf / f"ADNI_{ptid}_MR_MPR__GradWarp__Scaled_Br_2007_S{n}_I{100 + n}.nii", n))
    tables = {"merge": write(root / "ADNIMERGE_23Dec2025.csv", merge)}
    tables["list"] = write(
        root / "mine_1_02_2026.csv",
        [
            {"Image Data ID": f"I{100 + n}", "Sex": "F", "Age": 70, "Description": "MPR", "Acq Date": "1/12/2006"}
            | {"Note": "Zürich"}
            for n in range(3)
        ],
    )
    return Small("adni", root, tables, images)


def nacc(root: Path) -> Small:
    uds, mri, images = [], [], []
    for n, level in enumerate((1, 3, 4)):
        day = {"NACCID": f"NACC{n:06d}"}
        uds.append(
            day
            | {"VISITYR": 2010, "VISITMO": 5, "VISITDAY": 5, "NACCAGE": 70 + n, "SEX": 2, "NACCUDSD": level}
            | {"NACCALZP": 1 if level == 4 else 8, "NOTE": "Zürich", "NACCADC": 12}
        )
        mri.append(
            day
            | {"MRIYR": 2010, "MRIMO": 5, "MRIDY": 9, "NACCMRFI": f"mri{n}.zip", "MRIMANU": 1}
            | {"NOTE": "Zürich", "MRIFIELD": 2}
        )
        image = save(root / f"{n}.nii", n)
        with zipfile.ZipFile(root / f"mri{n}ni.zip", "w") as archive:
            archive.write(image, f"mri{n}ni/MPRAGE/1.2.{n}/1.2.{n}.nii")
        image.unlink()
        images.append(root / f"mri{n}ni.zip")
    tables = {"uds": write(root / "investigator_nacc71.csv", uds)}
    tables["mri"] = write(root / "investigator_mri_nacc71.csv", mri)
    return Small("nacc", root, tables, images)


def bids(root: Path) -> Small:
    people, images = [], []
    for n, dx in enumerate(VISITS):
        name = f"sub-{n + 1:02d}"
        people.append({"participant_id": name, "age": 70 + n, "diagnosis": dx, "sex": "F", "note": "Zürich"})
        images.append(save(root / name / "ses-M000" / "anat" / f"{name}_ses-M000_T1w.nii.gz", n))
    tables = {"participants": write(root / "participants.tsv", people, "\t")}
    rows = [{"session_id": f"ses-M{m:03d}", "age": 70 + m / 12, "diagnosis": "CN", "note": "Zürich"} for m in (0, 12)]
    tables["sessions"] = write(root / "sub-01" / "sub-01_sessions.tsv", rows, "\t")
    return Small("bids", root, tables, images)


def tsv(root: Path) -> Small:
    rows, images = [], []
    for n, dx in enumerate(VISITS):
        images.append(save(root / f"{n}.nii.gz", n))
        rows.append(
            {"image_path": f"{n}.nii.gz", "subject_id": f"s{n}", "age_years": 70 + n, "diagnosis": dx, "note": "Zürich"}
        )
    table = write(root / "mine.tsv", rows, "\t")
    return Small("tsv", table, {"scans": table}, images)


BUILDERS = {"adni": adni, "nacc": nacc, "bids": bids, "tsv": tsv}
