"""Small downloads in the real formats of ADNI and NACC, written cell by cell so that a test can break any of them."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path


def write_csv(path: Path, rows: list[dict], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, fieldnames=names, delimiter=delimiter, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


class Adni:
    """An ADNI download: rows of its tables, which `write` puts to disk, and images, which lie there at once."""

    def __init__(self, root: Path):
        self.root = root
        self.merge: list[dict] = []
        self.dxsum: list[dict] = []

    def visit(
        self, rid: int, code: str, day: str, dx: str, *, baseline: str = "2006-01-10", age: float = 70.0, **cells
    ) -> None:
        self.merge.append(
            {
                "RID": rid,
                "PTID": f"011_S_{rid:04d}",
                "COLPROT": "ADNI1",
                "VISCODE": code,
                "EXAMDATE": day,
                "EXAMDATE_bl": baseline,
                "AGE": age,
                "PTGENDER": "Female",
                "DX_bl": "AD",
                "DX": dx,
                "SITE": 11,
                "MMSE": 27,
                "APOE4": 1,
                "FLDSTRENG": "1.5 Tesla MRI",
                "Hippocampus": 6500,
                "Entorhinal": 3400,
                "ICV": 1500000,
                **cells,
            }
        )

    def image(
        self,
        rid: int,
        day: str,
        uid: int,
        *,
        description: str = "MPR__GradWarp__B1_Correction__N3__Scaled",
        leaf: str = "",
        suffix: str = ".nii",
        content: bytes | None = None,
        site: int = 11,
    ) -> Path:
        ptid = f"{site:03d}_S_{rid:04d}"
        folder = self.root / "ADNI" / ptid / description / f"{day}_08_20_30.0" / (leaf or f"I{uid}")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"ADNI_{ptid}_MR_{description}_Br_20070319113623975_S13408_I{uid}{suffix}"
        path.write_bytes(content if content is not None else f"image {uid}".encode())
        return path

    def write(self, merge: str = "ADNIMERGE_23Dec2025.csv", dxsum: str = "DXSUM_PDXCONV_ADNIALL.csv") -> Path:
        if self.merge:
            write_csv(self.root / "tables" / merge, self.merge)
        if self.dxsum:
            write_csv(self.root / "tables" / dxsum, self.dxsum)
        return self.root


class Nacc:
    """A NACC download."""

    def __init__(self, root: Path):
        self.root = root
        self.uds: list[dict] = []
        self.mri: list[dict] = []

    def visit(self, number: int, day: str, level: int, **cells) -> None:
        year, month, date = day.split("-")
        self.uds.append(
            {
                "NACCID": f"NACC{number:06d}",
                "NACCADC": 4347,
                "VISITYR": year,
                "VISITMO": month,
                "VISITDAY": date,
                "NACCAGE": 71,
                "SEX": 2,
                "NACCUDSD": level,
                "NACCALZD": 8,
                "NACCALZP": 8,
                "NACCETPR": 88,
                "CDRGLOB": 0.5,
                "NACCMMSE": 28,
                "NACCNE4S": 9,
                "FILLER": "x",
                **cells,
            }
        )

    def session(self, number: int, day: str, name: str, **cells) -> None:
        year, month, date = day.split("-")
        self.mri.append(
            {
                "NACCID": f"NACC{number:06d}",
                "MRIYR": year,
                "MRIMO": month,
                "MRIDY": date,
                "NACCMRFI": name,
                "NACCMRIA": 71,
                "MRIFIELD": 2,
                "MRIMANU": 1,
                "HIPPOVOL": "6.1234",
                "LENT": "1.5",
                "RENT": "1.7",
                "NACCICV": "1400.5",
                **cells,
            }
        )

    def archive(self, name: str, series: dict[str, bytes], sidecars: bool = True) -> Path:
        path = self.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for i, (description, content) in enumerate(series.items()):
                member = f"{path.stem}ni/{description if not sidecars else 'DICOM'}/1.2.{i}/1.2.{i}"
                archive.writestr(member + ".nii", content)
                if sidecars:
                    archive.writestr(member + ".json", json.dumps({"SeriesDescription": description}))
        return path

    def write(self, freeze: int = 71, who: str = "investigator") -> Path:
        write_csv(self.root / f"{who}_nacc{freeze}.csv", self.uds)
        write_csv(self.root / f"{who}_mri_nacc{freeze}.csv", self.mri)
        return self.root
