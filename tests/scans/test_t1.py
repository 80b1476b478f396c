"""Series are told apart by the words that scanners, archives and people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elr_mri.scans import t1

SCANS = [
    "MPR; GradWarp; B1 Correction; N3; Scaled",
    "MT1; GradWarp; N3m",
    "MP-RAGE",
    "MP_RAGE_REPEAT",
    "ADNI       MPRAGE #2",
    "Accelerated Sagittal MPRAGE",
    "SAG_IR-FSPGR",
    "IR-SPGR w/acceleration",
    "Sag_3D_T1_BRAVO",
    "t1_mpr_sag_iso",
    "SAGT1",
    "3D TFE",
    "T1W_3D_TFE",
    "MDEFT",
    "MPRAGE_SENSE2",
    "T1 3D",
]
OTHERS = [
    "Axial T2-Star",
    "Axial PD/T2 FSE",
    "Sagittal 3D FLAIR",
    "T1 FLAIR",
    "Axial DTI",
    "3 Plane Localizer",
    "Calibration Scan",
    "Field Mapping",
    "ASL PERFUSION",
    "Resting State fMRI",
    "MPRAGE_ND",
    "MPR Range",
    "MIDAS Whole Brain Mask",
    "HarP 135 final release 2015",
    "3D TOF MRA",
    "SWI",
    "",
    "Survey",
]


@pytest.mark.parametrize("description", SCANS)
def test_t1_scans(description):
    assert t1.is_t1(description)


@pytest.mark.parametrize("description", OTHERS)
def test_other_series(description):
    assert not t1.is_t1(description)


@given(st.sampled_from(SCANS + OTHERS), st.sampled_from("_;.,"))
def test_case_and_separators_do_not_matter(description, separator):
    assert t1.is_t1(description.upper().replace(" ", separator)) == t1.is_t1(description)


def test_order_and_level():
    assert sorted(["T1 post gad", "MPRAGE repeat", "MPRAGE", "T1 SE 2D"], key=t1.series_rank) == [
        "MPRAGE",
        "MPRAGE repeat",
        "T1 SE 2D",
        "T1 post gad",
    ]
    levels = [
        "MP-RAGE",
        "MPR; GradWarp",
        "MPR; GradWarp; B1 Correction; N3",
        "MT1; GradWarp; N3m",
        "MPR__GradWarp__N3__Scaled_2",
    ]
    assert [t1.processing_level(d) for d in levels] == ["original", "part", "n3", "n3", "scaled"]
