"""CAPS folders of clinica: scans that already lie in MNI space."""

from __future__ import annotations

import pytest

from elr_mri.config import Cohort
from elr_mri.errors import BadInput

PEOPLE = [
    {"participant_id": "sub-ADNI011S0001", "diagnosis": "CN", "age": 71.5, "sex": "F"},
    {"participant_id": "sub-ADNI011S0002", "diagnosis": "AD", "age": 80, "sex": "M"},
]


@pytest.fixture
def caps(tmp_path):
    def image(participant, session="ses-M000", space="MNI152NLin2009cSym", desc="_desc-Crop", kind="t1_linear"):
        folder = tmp_path / "caps" / "subjects" / participant / session / kind
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{participant}_{session}_space-{space}{desc}_res-1x1x1_T1w.nii.gz"
        path.write_bytes(f"{path.name}".encode())
        return path

    return image


def test_linear_scans_are_kept_and_the_rest_is_counted(caps, run, tmp_path, table_writer):
    caps("sub-ADNI011S0001")
    whole = caps("sub-ADNI011S0001", desc="")
    caps("sub-ADNI011S0002", session="ses-M00")
    caps("sub-ADNI011S0002", space="T1w", session="ses-M012")
    caps("sub-ADNI011S0002", kind="t1_volume")
    caps("sub-ADNI011S0003")
    table_writer(tmp_path / "caps" / "participants.tsv", PEOPLE, delimiter="\t")
    tables = run(Cohort(name="ADNI", format="caps", path=str(tmp_path / "caps")))
    scans = tables["scans"].set_index("subject_id")
    assert scans["diagnosis"].to_dict() == {"sub-ADNI011S0001": "CN", "sub-ADNI011S0002": "AD"}
    assert scans.loc["sub-ADNI011S0001", "image_path"] == str(whole)
    reasons = tables["exclusions"]["reason"].value_counts().to_dict()
    assert reasons == {"other-scan-of-visit": 1, "unknown-space": 1, "not-t1": 1, "no-table-row": 1}
    told = tables["exclusions"].set_index("reason")["detail"]
    assert told["unknown-space"] == "space T1w"


def test_the_tables_may_stand_in_the_bids_folder(caps, run, tmp_path, table_writer):
    caps("sub-ADNI011S0001", session="ses-M012")
    with pytest.raises(BadInput, match=r"participants\.tsv"):
        run(Cohort(name="ADNI", format="caps", path=str(tmp_path / "caps")))
    bids = tmp_path / "bids"
    table_writer(bids / "participants.tsv", [{"participant_id": "sub-ADNI011S0001", "sex": "F"}], delimiter="\t")
    visit = {"session_id": "ses-M012", "diagnosis": "MCI", "age": 73}
    table_writer(bids / "sub-ADNI011S0001" / "sub-ADNI011S0001_sessions.tsv", [visit], delimiter="\t")
    cohort = Cohort(name="ADNI", format="caps", path=str(tmp_path / "caps"), tables=str(bids))
    row = run(cohort)["scans"].iloc[0]
    assert (row["diagnosis"], row["age_years"], row["session_id"], row["sex"]) == ("MCI", 73, "ses-M012", "F")
