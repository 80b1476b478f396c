"""The audit: ids that share an image are one person, and nobody stands in two splits or cohorts."""

import json
from pathlib import Path

import pandas as pd
import pytest

from elr_mri.config import Audit
from elr_mri.errors import BadInput
from elr_mri.imaging.audit import AUDIT, audit, people, shared_images
from elr_mri.scans.table import SCANS, SPLIT


class Study:
    """Tables and convert verdicts of a study; `scan` adds one scan."""

    def __init__(self, folder: Path):
        self.folder, self.scans, self.splits = folder, [], {}

    def scan(self, subject: str, image: str | None, *, months: int = 0, cohort: str = "ADNI", split: str = "train"):
        scan_id = f"sub-{subject}_ses-M{months:03d}"
        facts = {
            "scan_id": scan_id,
            "cohort": cohort,
            "subject_id": f"sub-{subject}",
            "session_id": f"ses-M{months:03d}",
        }
        self.scans.append(
            {**facts, "months": months, "age_years": 70, "diagnosis": "CN", "image_path": f"{scan_id}.nii"}
        )
        self.splits[cohort, f"sub-{subject}"] = split
        told = {"status": "fail", "reason": "unreadable"} if image is None else {"status": "pass", "sha256": image}
        (self.folder / "convert" / scan_id).mkdir(parents=True)
        (self.folder / "convert" / scan_id / f"{scan_id}_convert.json").write_text(json.dumps(told))

    def audit(self, **settings) -> pd.DataFrame:
        splits = [{"cohort": c, "subject_id": s, "split": split} for (c, s), split in self.splits.items()]
        absent = dict.fromkeys(c.name for c in SCANS.columns)
        SCANS.write(pd.DataFrame([absent | row for row in self.scans]), self.folder / "scans.tsv")
        SPLIT.write(pd.DataFrame(splits).assign(fold=None), self.folder / "splits.tsv")
        out = self.folder / "audit.tsv"
        audit(self.folder / "scans.tsv", self.folder / "splits.tsv", self.folder / "convert", Audit(**settings), out)
        return AUDIT.read(out)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = Study(tmp_path)
    for k, split in enumerate(("train", "train", "val", "test")):
        made.scan(f"A{k}", f"image{k}", split=split)
    made.scan("N0", "image9", cohort="NACC", split="external")
    return made


def test_different_images_and_failed_scans_are_no_fault(study: Study, capsys: pytest.CaptureFixture) -> None:
    study.scan("A5", None, split="train")
    study.scan("A6", None, split="test")
    assert study.audit().empty
    assert "7 scans, 2 of them not converted and not compared; 0 share" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other, home",
    [("B1", {"split": "test"}), ("N1", {"cohort": "NACC", "split": "external"})],
    ids=["another split", "another cohort"],
)
def test_one_image_under_two_ids_in_two_homes_stops_the_run(study: Study, other: str, home: dict) -> None:
    study.scan(other, "image0", **home)
    with pytest.raises(BadInput, match=rf"sub-A0_ses-M000 \(ADNI train\) and sub-{other}_ses-M000 \(") as told:
        study.audit()
    assert str(told.value).count("\n") == 0
    assert not (study.folder / "audit.tsv").exists()
    assert set(AUDIT.read(study.folder / "leaks.tsv")["scan_id"]) == {"sub-A0_ses-M000", f"sub-{other}_ses-M000"}
    assert (study.audit(on_leak="report")["verdict"] == "leak").all()


def test_a_third_id_makes_two_ids_one_person(study: Study) -> None:
    """B shares one image with a training subject and another with a test subject, all in one cohort."""
    study.scan("B", "image0", months=0, split="train")
    study.scan("B", "image3", months=12, split="train")
    with pytest.raises(BadInput):
        study.audit()
    table = study.audit(on_leak="report")
    assert set(table["subject_id"]) == {"sub-A0", "sub-A3", "sub-B"} and table["person"].nunique() == 1


def test_a_repeat_within_one_split_of_one_cohort_is_told_and_goes_on(study: Study) -> None:
    study.scan("B", "image1", split="train")
    study.scan("A3", "image3", months=6, split="test")
    table = study.audit()
    assert (table["verdict"] == "repeat").all()
    assert table.groupby("person")["scan_id"].apply(set).tolist() == [
        {"sub-A1_ses-M000", "sub-B_ses-M000"},
        {"sub-A3_ses-M000", "sub-A3_ses-M006"},
    ]


def test_people_are_the_connected_ids() -> None:
    assert people(["a", "b", "c", "d", "e"], [["a", "c"], ["d", "c"], ["b"]]) == [1, 2, 1, 1, 3]


def test_five_thousand_scans_take_no_time() -> None:
    scans = pd.DataFrame({"scan_id": [f"s{k}" for k in range(5000)], "cohort": "ADNI", "split": "train"})
    scans["subject_id"] = [f"p{k // 3}" for k in range(5000)]
    scans["image_sha256"] = [f"{k % 4000}" for k in range(5000)]
    found = shared_images(scans)
    assert len(found) == 2000 and found["verdict"].eq("repeat").all()
