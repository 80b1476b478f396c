"""Volumes that the user already has, mm³: FreeSurfer's, SynthSeg's, or those of the cohort's own tables.

    freesurfer  a SUBJECTS_DIR; or a table or a folder of tables: of `asegstats2table` and `aparcstats2table`, of ADNI's
                UCSFFSX*.csv, of SCAN's `*mrisbm*.csv`, or any table with FreeSurfer's column names
    synthseg    the CSV of `mri_synthseg --vol` (with --parc it has the entorhinal cortex), or a folder of such
    cohort      hippocampus_mm3, entorhinal_mm3 and icv_mm3 of scans.tsv (ADNIMERGE, NACC): left and right together

Volumes of two sources are not comparable: a hippocampus is not cut out of the brain in the same way by any two of them.
A scan without a row, with two, or whose run failed gets blank volumes and the reason. Besides hippocampus, entorhinal cortex and head
size, every other region that FreeSurfer or SynthSeg tells is passed on, volumes in mm³ and mean thicknesses in mm (`further.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from elr_mri.config import Measure
from elr_mri.errors import BadInput
from elr_mri.imaging import freesurfer, further, names
from elr_mri.imaging.labels import ROI, TOTALS, VOLUMES, with_totals
from elr_mri.imaging.matching import Match, match
from elr_mri.provenance import digest_json, record
from elr_mri.scans.download import header, numbers, read_table
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["measure"]

#: What a person's volumes in mm³ lie between: wider than any published adult range, to find cm³ and failed runs.
PLAUSIBLE_MM3 = {
    **dict.fromkeys((*TOTALS, *(side for sides in TOTALS.values() for side in sides)), (100.0, 20000.0)),
    "intracranial": (500_000.0, 3_000_000.0),
}

_NAME = {
    "name": ["measure:volume", "subject", "scan_id", "participant_id", "subject_id", "", "unnamed: 0"],
    "session": ["session_id", "session"],
    "image": ["imageuid", "image_uid", "loniuid", "loni_image_t1"],
    "grade": ["overallqc"],
}
#: Source -> our name -> what a column is called, in lower case. UCSFFSX: ST codes of UCSF's data dictionary.
COLUMNS = {
    "freesurfer": {
        "hippocampus_left": ["left-hippocampus", "left.hippocampus", "st29sv", "left_hippocampus"],
        "hippocampus_right": ["right-hippocampus", "right.hippocampus", "st88sv", "right_hippocampus"],
        "entorhinal_left": ["lh_entorhinal_volume", "st24cv", "lh_entorhinal_gvol"],
        "entorhinal_right": ["rh_entorhinal_volume", "st83cv", "rh_entorhinal_gvol"],
        "intracranial": ["estimatedtotalintracranialvol", "etiv", "intracranialvol", "icv", "st10cv"],
    },
    "synthseg": {
        "hippocampus_left": ["left hippocampus"],
        "hippocampus_right": ["right hippocampus"],
        "entorhinal_left": ["ctx-lh-entorhinal"],
        "entorhinal_right": ["ctx-rh-entorhinal"],
        "intracranial": ["total intracranial"],
    },
}
_OF_SCANS = {"hippocampus": "hippocampus_mm3", "entorhinal": "entorhinal_mm3", "intracranial": "icv_mm3"}
_TABLES = (".csv", ".tsv", ".txt", ".table", ".dat", ".stats")


@dataclass
class Row:
    """What a source tells of one scan: volumes in mm³ by the names of `labels.VOLUMES`, what is wrong with them, and the further regions,
    mm³ or mm by the names of `further.py`; `twice` are those of which two values are told."""

    volumes: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    further: dict[str, float] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Given:
    """The volumes of all scans of a study from one source; `regions` are those that the source knows at all."""

    rows: Mapping[str, Row | Path]
    matches: Mapping[str, Match]
    regions: frozenset[str]

    def of(self, scan_id: str) -> tuple[dict[str, float | None], str, str, dict[str, float]]:
        """Volumes of one scan by the names of `labels.VOLUMES` (None: not known), status and reason, and its further regions."""
        found = self.matches[scan_id]
        if found.row is None:
            return dict.fromkeys(VOLUMES), "fail", found.reason, {}
        row = self.rows[found.row]
        if isinstance(row, Path):
            row = Row(*freesurfer.read_run(row))
        sound, faults = _plausible(row.volumes)
        more, odd = further.plausible(row.further)
        faults = [found.reason] * bool(found.reason) + row.faults + _told_twice(row.twice) + faults + odd
        lacking = [name for name in self.regions if name not in row.volumes]
        if lacking and not faults:
            faults.append(f"blank: {', '.join(sorted(lacking))}")
        volumes = with_totals(sound)
        status = "fail" if all(volume is None for volume in volumes.values()) else "review" if faults else "pass"
        return volumes, status, "; ".join(faults), more


def read_given(scans: pd.DataFrame, settings: Measure) -> Given:
    """What `measure.source` tells of the scans of the whole scan table."""
    if settings.source == "cohort":
        return _of_cohort(scans)
    path = Path(settings.path)
    rows = _runs(path) if settings.source == "freesurfer" and path.is_dir() else {}
    rows = rows or _of_tables(path, settings.source)
    matches = match(scans, rows)
    n_found = sum(one.row is not None for one in matches.values())
    print(f"measure: {len(rows)} rows in {path}; {n_found} of {len(scans)} scans have one", flush=True)
    if not n_found:
        raise BadInput(
            expected=f"rows named after scans, such as {scans['scan_id'].iloc[0]}",
            got=f"{', '.join(sorted(rows)[:3])}; of {scans['scan_id'].iloc[0]}: {next(iter(matches.values())).reason}",
            where=str(path),
            fix="Name them by scan_id, subject_session, or the image's file name, all as in scans.tsv.",
        )
    known = {name for row in rows.values() if isinstance(row, Row) for name in row.volumes}
    return Given(rows, matches, frozenset(known or COLUMNS[settings.source]))


def give_scan(given: Given, out_dir: Path, scan_id: str, settings: Measure) -> dict:
    """Write one scan's `<scan_id>_volumes.tsv` from its source; as `measure.measure_scan`, without a label map."""
    volumes, status, reason, more = given.of(scan_id)
    table = out_dir / names.given(scan_id)
    names.forget_others(out_dir, scan_id, "")  # of an earlier run by registration: other volumes
    ROI.write(_table(volumes, more), table)
    row = given.matches[scan_id].row
    # The folder is private to this machine; what was read from it is in the digest.
    told = settings.model_copy(update={"path": settings.path and Path(settings.path).name})
    inputs = {"volumes": digest_json([row, volumes, more])}
    record(table, step="measure", version=VERSION, inputs=inputs, settings=told, row=row, reason=reason)
    return {"scan_id": scan_id, "status": status, "reason": reason, "volumes_mm3": volumes}


def _table(volumes: Mapping[str, float | None], more: Mapping[str, float]) -> pd.DataFrame:
    """One scan's volumes as `ROI` has them; with further regions a column for their thicknesses, too."""
    frame = pd.DataFrame({"region": list(volumes), "volume_mm3": list(volumes.values())})
    if not more:
        return frame
    regions, thick = sorted(more), [further.is_thickness(name) for name in sorted(more)]
    values = pd.Series([more[name] for name in regions])
    others = {"region": regions, "volume_mm3": values.mask(thick), "thickness_mm": values.where(thick)}
    return pd.concat([frame.astype({"volume_mm3": float}), pd.DataFrame(others)], ignore_index=True)


def _of_cohort(scans: pd.DataFrame) -> Given:
    """The volumes in scans.tsv itself: sums of both sides."""
    rows = {
        scan.scan_id: Row({ours: v for ours, name in _OF_SCANS.items() if pd.notna(v := getattr(scan, name))})
        for scan in scans.itertuples()
    }
    regions = frozenset(name for row in rows.values() for name in row.volumes)
    if "hippocampus" not in regions:
        raise BadInput(
            expected="hippocampal volumes in the cohorts' tables",
            got="none of any scan",
            where="scans.tsv, column hippocampus_mm3",
            fix="Download ADNIMERGE or NACC's MRI table with its volumes, or choose another measure.source.",
        )
    absent = Match(reason="the cohort's tables hold no volumes of this scan")
    return Given(rows, {name: Match(name) if row.volumes else absent for name, row in rows.items()}, regions)


def _runs(path: Path) -> dict[str, Path]:
    """The subjects of a SUBJECTS_DIR; empty where the folder is none."""
    runs = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and freesurfer.is_run(folder)}
    return {name: folder for name, folder in runs.items() if not name.startswith((".", "fsaverage"))}


def _of_tables(path: Path, source: str) -> dict[str, Row]:
    """The rows of a table, or of every table in a folder; a scan's volumes may stand in several (aseg, lh and rh aparc)."""
    columns = COLUMNS[source]
    if not path.exists():
        raise BadInput(
            expected="a file or folder", got="none", where=f"{path}, key measure.path", fix="Check the path."
        )
    files = [path] if path.is_file() else [f for f in sorted(path.iterdir()) if f.suffix.lower() in _TABLES]
    wanted = {**_NAME, **columns}
    spelled = {name for names in columns.values() for name in names}
    more = {file: _further_columns(file, source, spelled) for file in files}
    tables = [file for file in files if _has_sides(more[file]) or spelled & set(header(file))]
    if not any(spelled & set(header(file)) for file in tables):
        raise BadInput(
            expected=f"a table with a column {' or '.join(columns['hippocampus_left'][:1])}",
            got=f"{len(files)} tables without" if files else "no table",
            where=str(path),
            fix="Give a SUBJECTS_DIR, or tables with a row for each scan (asegstats2table without --transpose).",
        )
    rows: dict[str, Row] = {}
    for file in tables:
        hemisphere = [
            name for name in header(file)[:1] if ".aparc" in name
        ]  # lh.aparc.volume, rh.aparc.DKTatlas.volume
        asked = {**wanted, "name": [*hemisphere, *_NAME["name"]], **more[file]}
        _add(rows, read_table(file, asked), list(columns), list(more[file]), file)
    return rows


def _further_columns(file: Path, source: str, ours: set[str]) -> dict[str, list[str]]:
    """The further regions of a table, by their names, and what their columns are called: of two columns for one region the first counts."""
    found: dict[str, list[str]] = {}
    for column in header(file):
        if column not in ours and (region := further.NAMED[source](column)):
            found.setdefault(region, []).append(column)
    return found


def _has_sides(regions: Mapping[str, list[str]]) -> bool:
    """Whether regions left or right are among them: a table without is another one, whose `CSF` may be of a lumbar puncture."""
    return any(name.startswith(("left", "right", "lh_", "rh_")) for name in regions)


def _add(rows: dict[str, Row], table: pd.DataFrame, regions: list[str], more: list[str], file: Path) -> None:
    """Add a table's rows; where two tell different values of one region, neither counts."""
    if table[["name", "image"]].isna().all(axis=None):
        raise BadInput(
            expected="a first column that names the scan",
            got="none of a known name",
            where=str(file),
            fix=f"Name it {' or '.join(_NAME['name'][:4])}.",
        )
    values = {region: numbers(table[region], low=1e-9).to_numpy() for region in regions}  # 0: not segmented
    others = {region: numbers(table[region]).to_numpy() for region in more}  # 0: of lesions and vessels, none
    for place, row_of in enumerate(table[list(_NAME)].itertuples(index=False)):
        if (name := _name(row_of)) is None:
            continue
        row = rows.setdefault(name, Row())
        if isinstance(row_of.grade, str) and row_of.grade.strip().lower() == "fail":
            row.faults.append(f"{file.name}: OVERALLQC Fail")
        for told_of, into in ((values, row.volumes), (others, row.further)):
            for region, column in told_of.items():
                value = float(column[place])
                if value != value or region in row.twice:
                    continue
                if abs(into.setdefault(region, value) - value) > 0.001 * value:  # files round differently
                    row.twice.add(region)
                    del into[region]


def _told_twice(regions: set[str]) -> list[str]:
    """The fault of regions of which two values are told: ours by name, of the others the first and how many."""
    ours, others = [name for name in VOLUMES if name in regions], sorted(regions - set(VOLUMES))
    more = f" and {len(others) - 1} further regions" if others[1:] else ""
    return [f"two values of {name}" for name in ours] + [f"two values of {name}{more}" for name in others[:1]]


def _name(told) -> str | None:
    """What a row is of: an image, or a subject with its session, if the table has a column of its own for that."""
    if isinstance(told.image, str):
        return f"I{told.image.strip().removesuffix('.0').removeprefix('I')}"
    if not isinstance(told.name, str):
        return None
    return f"{told.name}_{told.session}" if isinstance(told.session, str) else told.name


def _plausible(volumes: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """The volumes that can be a person's in mm³, and a fault for each that cannot."""
    wrong = {n: v for n, v in volumes.items() if not PLAUSIBLE_MM3[n][0] <= v <= PLAUSIBLE_MM3[n][1]}
    faults = [f"{name} of {v:g} is no volume of a person in mm³" for name, v in wrong.items()]
    return {name: v for name, v in volumes.items() if name not in wrong}, faults
