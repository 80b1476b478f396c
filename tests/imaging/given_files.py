"""Files as FreeSurfer and SynthSeg write them, in the layout of each version."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

#: How the intracranial volume is called: FreeSurfer until 5.3, and since 6.
ICV_LINES = {
    5: "# Measure IntraCranialVol, ICV, Intracranial Volume, {:f}, mm^3",
    6: "# Measure EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, {:f}, mm^3",
}
VERSION_LINES = {
    5: "# cvs_version $Id: mri_segstats.c,v 1.75.2.9 2013/02/16 00:09:33 greve Exp $",
    6: "# cvs_version 7.2.0",
}
#: What a run tells of each hemisphere besides the entorhinal cortex's volume.
FURTHER = {"bankssts_volume": 2297, "bankssts_thickness": 2.501, "entorhinal_thickness": 3.310}
VOLUMES = {"lh": 3900.1, "rh": 4100.2, "lh_ent": 1700.0, "rh_ent": 1650.0, "icv": 1_523_456.7}


def aseg(left: float, right: float, icv: float, *, version: int = 6) -> str:
    """`stats/aseg.stats` of mri_segstats."""
    rows = [(4, "Left-Lateral-Ventricle", 12345.6), (17, "Left-Hippocampus", left), (53, "Right-Hippocampus", right)]
    table = [
        f"{i:3d} {number:3d} {round(mm3):8d} {mm3:10.1f}  {name:<30s} 71.5 9.2 20.0 110.0 90.0"
        for i, (number, name, mm3) in enumerate(rows, start=1)
    ]
    return "\n".join(
        [
            "# Title Segmentation Statistics",
            "#",
            "# generating_program mri_segstats",
            VERSION_LINES[version],
            "# subjectname x",
            "# Measure BrainSeg, BrainSegVol, Brain Segmentation Volume, 1142345.000000, mm^3",
            "# Measure lhCortex, lhCortexVol, Left hemisphere cortical gray matter volume, 230512.123456, mm^3",
            "# Measure BrainSegVol-to-eTIV, BrainSegVol-to-eTIV, Ratio of BrainSegVol to eTIV, 0.749839, unitless",
            ICV_LINES[version].format(icv),
            "# SegVolFile mri/aseg.mgz",
            "# TableCol  4 ColHeader Volume_mm3",
            "# NRows 3",
            "# NTableCols 10",
            "# ColHeaders  Index SegId NVoxels Volume_mm3 StructName normMean normStdDev normMin normMax normRange",
            *table,
            "",
        ]
    )


def aparc(entorhinal: float, hemisphere: str) -> str:
    """`stats/?h.aparc.stats` of mris_anatomical_stats."""
    return "\n".join(
        [
            "# Table of FreeSurfer cortical parcellation anatomical statistics",
            f"# hemi {hemisphere}",
            "# Measure Cortex, NumVert, Number of Vertices, 131253, unitless",
            "# Measure Cortex, WhiteSurfArea, White Surface Total Area, 87092.8, mm^2",
            "# NTableCols 10",
            "# ColHeaders StructName NumVert SurfArea GrayVol ThickAvg ThickStd MeanCurv GausCurv FoldInd CurvInd",
            "bankssts                                 1408    967   2297  2.501 0.508     0.108     0.026       12     1.4",
            f"entorhinal                                600    420  {entorhinal:.0f}  3.310 0.650     0.120     0.040        6     1.0",
            "",
        ]
    )


def run(subjects: Path, name: str, *, version: int = 6, **changed: float) -> Path:
    """A finished FreeSurfer run in a SUBJECTS_DIR."""
    volumes = VOLUMES | changed
    stats = subjects / name / "stats"
    stats.mkdir(parents=True)
    (subjects / name / "scripts").mkdir()
    (stats / "aseg.stats").write_text(aseg(volumes["lh"], volumes["rh"], volumes["icv"], version=version))
    for hemisphere in ("lh", "rh"):
        (stats / f"{hemisphere}.aparc.stats").write_text(aparc(volumes[f"{hemisphere}_ent"], hemisphere))
    return subjects / name


def freesurfer_tables(folder: Path, names: list[str], *, sep: str = "\t", thickness: bool = False) -> Path:
    """What asegstats2table and aparcstats2table (of both hemispheres) write, of volumes and, if asked, of thicknesses."""
    folder.mkdir(exist_ok=True)
    v = VOLUMES
    columns = {"Left-Hippocampus": v["lh"], "Right-Hippocampus": v["rh"], "EstimatedTotalIntraCranialVol": v["icv"]}
    tables = {"aseg_stats.txt": {"Measure:volume": names, "Left-Lateral-Ventricle": 12345.6, **columns}}
    for hemisphere in ("lh", "rh"):
        tables[f"{hemisphere}_aparc_volume.txt"] = {
            f"{hemisphere}.aparc.volume": names,
            f"{hemisphere}_bankssts_volume": 2297,
            f"{hemisphere}_entorhinal_volume": v[f"{hemisphere}_ent"],
            "BrainSegVolNotVent": 1120000.0,
            "eTIV": round(v["icv"], 1),
        }
        if thickness:
            tables[f"{hemisphere}_aparc_thickness.txt"] = {
                f"{hemisphere}.aparc.thickness": names,
                f"{hemisphere}_bankssts_thickness": 2.501,
                f"{hemisphere}_entorhinal_thickness": 3.31,
                f"{hemisphere}_MeanThickness_thickness": 2.4,
                "BrainSegVolNotVent": 1120000.0,
            }
    for name, content in tables.items():
        pd.DataFrame(content).to_csv(folder / name, sep=sep, index=False)
    return folder


def synthseg_csv(path: Path, names: list[str], *, parc: bool = True) -> Path:
    """What `mri_synthseg --vol` writes."""
    v = VOLUMES
    content = {
        "subject": names,
        "total intracranial": v["icv"],
        "left cerebral white matter": 2.2e5,
        "left hippocampus": v["lh"],
        "right hippocampus": v["rh"],
    }
    cortex = {"ctx-lh-bankssts": 2300.0, "ctx-lh-entorhinal": v["lh_ent"], "ctx-rh-entorhinal": v["rh_ent"]}
    pd.DataFrame(content | (cortex if parc else {})).to_csv(path, index=False)
    return path
