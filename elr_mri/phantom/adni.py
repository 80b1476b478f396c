"""The internal cohort as an ADNI download: IDA image tree, ADNIMERGE, DXSUM and the image collection table."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path

import nibabel as nib

from elr_mri.phantom.subjects import Subject, Visit
from elr_mri.provenance import atomic

#: The suffix that downloads carry.
DATED = "19May2026"
DXSUM_CODES = {"CN": 1, "MCI": 2, "AD": 3}
ADNIMERGE_DX = {"CN": "CN", "MCI": "MCI", "AD": "Dementia"}
SCAN_DELAY_DAYS = 9
DESCRIPTIONS = {1.5: "MPR__GradWarp__B1_Correction__N3__Scaled", 3.0: "MT1__GradWarp__N3m"}


def ptid(subject: Subject) -> str:
    """ADNI's subject id, `<site>_S_<roster id>`."""
    return f"{subject.site.number:03d}_S_{subject.number:04d}"


def viscode(months: int) -> str:
    """ADNI's visit code."""
    return "bl" if months == 0 else f"m{months:02d}"


def exam_date(subject: Subject, visit: Visit) -> date:
    """Day of the clinical visit."""
    return date(2006, 3, 1) + timedelta(days=subject.baseline_day + round(visit.months * 30.4375))


def image_id(subject: Subject, visit: Visit) -> str:
    """IDA's image id, unique over the study."""
    return f"I{100_000 + 10 * subject.number + visit.months // 6}"


def image_file(root: Path, subject: Subject, visit: Visit) -> Path:
    """Where the image of a visit lies: older leaves are named by series (`S…`), newer ones by image (`I…`)."""
    day = exam_date(subject, visit) + timedelta(days=SCAN_DELAY_DAYS)
    description, image = DESCRIPTIONS[subject.site.field_strength_t], image_id(subject, visit)
    series = f"S{20_000 + 10 * subject.number + visit.months // 6}"
    leaf = series if subject.site.field_strength_t == 1.5 else image
    name = f"ADNI_{ptid(subject)}_MR_{description}_Br_{day:%Y%m%d}103000000_{series}_{image}.nii"
    return root / "ADNI" / ptid(subject) / description / f"{day:%Y-%m-%d}_10_30_00.0" / leaf / name


def write_image(root: Path, subject: Subject, visit: Visit, image: nib.Nifti1Image) -> Path:
    """Write one scan where IDA would have put it."""
    path = image_file(root, subject, visit)
    with atomic(path) as draft:
        nib.save(image, draft)
    return path


def write_tables(root: Path, subjects: list[Subject]) -> None:
    """Write ADNIMERGE, DXSUM and the collection table of the cohort."""
    visits = [(subject, visit) for subject in subjects for visit in subject.visits]
    _write_csv(root / f"ADNIMERGE_{DATED}.csv", [_adnimerge_row(s, v) for s, v in visits])
    _write_csv(root / f"DXSUM_{DATED}.csv", [_dxsum_row(s, v) for s, v in visits])
    _write_csv(root / "phantom_collection_5_19_2026.csv", [_collection_row(s, v) for s, v in visits if v.scanned])


def _adnimerge_row(subject: Subject, visit: Visit) -> dict[str, object]:
    first = subject.visits[0]
    return {
        "RID": subject.number,
        "COLPROT": "ADNI1",
        "ORIGPROT": "ADNI1",
        "PTID": ptid(subject),
        "SITE": subject.site.number,
        "VISCODE": viscode(visit.months),
        "EXAMDATE": exam_date(subject, visit).isoformat(),
        "DX_bl": {"CN": "CN", "MCI": "LMCI", "AD": "AD"}[first.given_label],
        "AGE": round(first.age_years, 1),
        "PTGENDER": {"F": "Female", "M": "Male"}[subject.sex],
        "APOE4": subject.apoe4,
        "CDRSB": {0.0: 0.0, 0.5: 1.5, 1.0: 5.0}[visit.cdr_global],
        "MMSE": visit.mmse,
        "FLDSTRENG": f"{subject.site.field_strength_t:g} Tesla MRI",
        "IMAGEUID": image_id(subject, visit)[1:] if visit.scanned else "",
        "DX": ADNIMERGE_DX[visit.given_label],
        "EXAMDATE_bl": exam_date(subject, first).isoformat(),
        "Years_bl": round(visit.months / 12, 3),
        "Month": visit.months,
        "M": visit.months,
        "update_stamp": "2026-05-19 04:20:46.0",
    }


def _dxsum_row(subject: Subject, visit: Visit) -> dict[str, object]:
    return {
        "PHASE": "ADNI1",
        "PTID": ptid(subject),
        "RID": subject.number,
        "VISCODE": viscode(visit.months),
        "VISCODE2": viscode(visit.months),
        "EXAMDATE": exam_date(subject, visit).isoformat(),
        "DIAGNOSIS": DXSUM_CODES[visit.given_label],
    }


def _collection_row(subject: Subject, visit: Visit) -> dict[str, object]:
    day = exam_date(subject, visit) + timedelta(days=SCAN_DELAY_DAYS)
    return {
        "Image Data ID": image_id(subject, visit),
        "Subject": ptid(subject),
        "Group": subject.visits[0].given_label,
        "Sex": subject.sex,
        "Age": int(visit.age_years),
        "Visit": "sc" if visit.months == 0 else viscode(visit.months),
        "Modality": "MRI",
        "Description": DESCRIPTIONS[subject.site.field_strength_t].replace("__", "; ").replace("_", " "),
        "Type": "Processed",
        "Acq Date": f"{day.month}/{day.day}/{day.year}",
        "Format": "NiFTI",
        "Downloaded": "5/19/2026",
    }


def _write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows as IDA does: every cell quoted."""
    with atomic(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
