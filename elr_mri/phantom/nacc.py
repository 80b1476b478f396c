"""The external cohort as a NACC download: UDS table, MRI table and one zip of nested NIfTI series per session."""

from __future__ import annotations

import csv
import json
import zipfile
from datetime import date, timedelta
from pathlib import Path

import nibabel as nib

from elr_mri.phantom.subjects import Subject, Visit
from elr_mri.provenance import atomic

FREEZE = 71
FIRST_DAY = date(2008, 2, 1)
UDS_DIAGNOSIS = {"CN": 1, "MCI": 3, "AD": 4}
#: NACC's codes of scanner makers (MRIMANU) and field strengths (MRIFIELD), as its data dictionary lists them.
MRIMANU = {"GE MEDICAL SYSTEMS": 1, "SIEMENS": 2, "Philips Medical Systems": 3}
MRIFIELD = {1.5: 1, 3.0: 2}
#: A zip member has to have a date; a fixed one keeps the bytes the same.
ZIP_DATE = (2020, 1, 1, 0, 0, 0)


def naccid(subject: Subject) -> str:
    """NACC's subject id."""
    return f"NACC{subject.number:06d}"


def visit_day(subject: Subject, visit: Visit) -> date:
    """Day of the clinical visit."""
    return FIRST_DAY + timedelta(days=subject.baseline_day + round(visit.months * 30.4375))


def zip_name(subject: Subject, visit: Visit) -> str:
    """Name of a session's zip, the older style."""
    return f"mri{10 * (subject.number - 100_000) + visit.months // 6}.zip"


def write_image(root: Path, subject: Subject, visit: Visit, image: nib.Nifti1Image) -> str:
    """Write one session: the T1 and a low-resolution localizer, each in a series folder. Returns `zip!member` of the T1."""
    path = root / "images" / zip_name(subject, visit)
    folder = f"{path.stem}ni"
    series = f"1.2.826.0.1.3680043.2.{subject.number}.{visit.months + 1}"
    t1 = f"{folder}/MPRAGE/{series}.1/{series}.1.nii"
    localizer = f"{folder}/3_Plane_Localizer/{series}.2/{series}.2.nii"
    with atomic(path) as draft, zipfile.ZipFile(draft, "w") as archive:
        _add(
            archive, localizer, image.slicer[::8, ::8, ::8].to_bytes(), description="3_Plane_Localizer", subject=subject
        )
        _add(archive, t1, image.to_bytes(), description="MPRAGE", subject=subject)
    return f"{path}!{t1}"


def _add(archive: zipfile.ZipFile, member: str, content: bytes, *, description: str, subject: Subject) -> None:
    """Add an image and its JSON sidecar to a session's zip."""
    told = {
        "Modality": "MR",
        "SeriesDescription": description,
        "MagneticFieldStrength": subject.site.field_strength_t,
        "Manufacturer": subject.site.manufacturer,
    }
    for name, data in ((member, content), (member.replace(".nii", ".json"), json.dumps(told).encode())):
        archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data, zipfile.ZIP_DEFLATED, compresslevel=1)


def write_tables(root: Path, subjects: list[Subject]) -> None:
    """Write the UDS and MRI tables of the cohort."""
    visits = [(s, v, order + 1) for s in subjects for order, v in enumerate(s.visits)]
    _write_csv(root / f"investigator_nacc{FREEZE}.csv", [_uds_row(*v) for v in visits])
    _write_csv(root / f"investigator_mri_nacc{FREEZE}.csv", [_mri_row(*v) for v in visits if v[1].scanned])


def _uds_row(subject: Subject, visit: Visit, number: int) -> dict[str, object]:
    day, diseased = visit_day(subject, visit), visit.given_label == "AD"
    return {
        "NACCID": naccid(subject),
        "NACCADC": subject.site.number,
        "PACKET": "I" if number == 1 else "F",
        "FORMVER": 3,
        "VISITMO": day.month,
        "VISITDAY": day.day,
        "VISITYR": day.year,
        "NACCVNUM": number,
        "BIRTHYR": day.year - int(visit.age_years),
        "SEX": {"M": 1, "F": 2}[subject.sex],
        "EDUC": 16,
        "NACCAGE": int(visit.age_years),
        "NACCUDSD": UDS_DIAGNOSIS[visit.given_label],
        "NACCALZD": 1 if diseased else (8 if visit.given_label == "CN" else 0),
        "NACCALZP": 1 if diseased else (8 if visit.given_label == "CN" else 7),
        "NACCETPR": 1 if diseased else (88 if visit.given_label == "CN" else 99),
        "CDRGLOB": visit.cdr_global,
        "NACCMMSE": visit.mmse,
        "NACCNE4S": subject.apoe4,
    }


def _mri_row(subject: Subject, visit: Visit, number: int) -> dict[str, object]:
    day = visit_day(subject, visit)
    return {
        "NACCADC": subject.site.number,
        "NACCID": naccid(subject),
        "MRIMO": day.month,
        "MRIDY": day.day,
        "MRIYR": day.year,
        "NACCMRIA": int(visit.age_years),
        "NACCMRFI": zip_name(subject, visit),
        "NACCMNUM": number,
        "NACCMRDY": 0,
        "MRIT1": 1,
        "MRIT2": 0,
        "MRIFLAIR": 0,
        "MRIFIELD": MRIFIELD[subject.site.field_strength_t],
        "MRIMANU": MRIMANU[subject.site.manufacturer],
        "NACCICV": "9999.999",
        "HIPPOVOL": "88.8888",
        "NACCNIFT": 1,
        "NACCNMRI": 1,
        "NACCDICO": 0,
        "NACCVNUM": number,
        "NACCMRSA": 1,
    }


def _write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with atomic(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
