"""Published split tables are the split: what they list takes part, and everything else is counted."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elr_mri import config
from elr_mri.config import Published, Split
from elr_mri.errors import BadInput
from elr_mri.scans.demographics import DEMOGRAPHICS, demographics, demographics_of_published
from elr_mri.scans.published import LISTED, UNUSED_SCANS, read_listed
from elr_mri.scans.split import split
from elr_mri.scans.table import SCANS, SPLIT, join_splits

#: subject -> months -> diagnosis in the scan table.
HERE = {
    "ADNI123S0001": {0: "CN", 6: "CN", 12: "MCI"},
    "ADNI123S0002": {0: "MCI", 6: "MCI"},
    "ADNI123S0003": {0: "AD"},
    "ADNI123S0004": {0: "AD", 6: "AD"},
    "ADNI123S0005": {0: "CN"},
}
TABLES = {
    # Sessions of two and of three digits, commas in a .tsv, another label, a blank label, scans that are not here.
    "train": "participant_id\tsession_id\tdiagnosis\tage\n"
    "sub-ADNI123S0001\tses-M00\tCN\t70.0\nsub-ADNI123S0001\tses-M12\tCN\t71.0\n"
    "sub-ADNI123S0002\tses-M00\t\t80.0\nsub-ADNI123S0002\tses-M24\tAD\t82.0\n",
    "val": ",participant_id,session_id,diagnosis,age\n0,sub-ADNI123S0003,ses-M000,AD,75\n",
    "test": "participant_id\tsession_id\tdiagnosis\nsub-ADNI123S0004\tses-M006\tAD\nsub-ADNI123S0009\tses-M00\tMCI\n",
}


def scan_table(cohort: str = "ADNI") -> pd.DataFrame:
    rows = [
        {
            "scan_id": f"sub-{s}_ses-M{m:03d}",
            "cohort": cohort,
            "subject_id": f"sub-{s}",
            "session_id": f"ses-M{m:03d}",
            "months": m,
            "age_years": 70 + m / 12,
            "sex": "F",
            "diagnosis": d,
            "image_path": f"{s}_{m}.nii",
        }
        for s, visits in HERE.items()
        for m, d in visits.items()
    ]
    outside = {**rows[0], "scan_id": "n", "cohort": "NACC", "subject_id": "sub-NACC000001", "image_path": "n.nii"}
    frame = pd.DataFrame([*rows, outside])
    return frame.assign(**{c.name: None for c in SCANS.columns if c.name not in frame})


@pytest.fixture
def study(tmp_path):
    """Writes the tables and splits by them; returns the folder."""

    def go(tables=TABLES, labels="scans", external=("NACC",), **options):
        paths = {}
        for name, text in tables.items():
            paths[name] = str(tmp_path / f"{name}.tsv")
            (tmp_path / f"{name}.tsv").write_text(text)
        SCANS.write(scan_table(), tmp_path / "scans.tsv")
        chosen = Split(published=Published(**paths, labels=labels), **options)
        split(tmp_path / "scans.tsv", chosen, list(external), tmp_path / "splits.tsv", assigned_path=tmp_path / "a.tsv")
        return tmp_path

    return go


def used(folder) -> dict[str, tuple[str, str]]:
    joined = join_splits(SCANS.read(folder / "scans.tsv"), SPLIT.read(folder / "splits.tsv"))
    assert list(joined.columns) == [*(c.name for c in SCANS.columns), "split"]
    return {r.scan_id: (r.split, r.diagnosis) for r in joined.itertuples()}


def test_listed_scans_take_their_split_and_no_other_takes_part(study):
    told = used(study())
    assert {k: v for k, v in told.items() if v[0] != "unused"} == {
        "sub-ADNI123S0001_ses-M000": ("train", "CN"),
        "sub-ADNI123S0001_ses-M012": ("train", "MCI"),
        "sub-ADNI123S0002_ses-M000": ("train", "MCI"),
        "sub-ADNI123S0003_ses-M000": ("val", "AD"),
        "sub-ADNI123S0004_ses-M006": ("test", "AD"),
        "n": ("external", "CN"),
    }
    assert len(told) == len(scan_table())


def test_everything_listed_and_every_scan_is_accounted_for(study, capsys):
    folder = study()
    listed, unused = LISTED.read(folder / "listed.tsv"), UNUSED_SCANS.read(folder / "unused.tsv")
    assert listed.set_index(["subject_id", "session_id"])["state"].to_dict() == {
        ("sub-ADNI123S0001", "ses-M000"): "found",
        ("sub-ADNI123S0001", "ses-M012"): "other-diagnosis",
        ("sub-ADNI123S0002", "ses-M000"): "found",
        ("sub-ADNI123S0002", "ses-M024"): "session-not-found",
        ("sub-ADNI123S0003", "ses-M000"): "found",
        ("sub-ADNI123S0004", "ses-M006"): "found",
        ("sub-ADNI123S0009", "ses-M000"): "subject-not-found",
    }
    assert unused.set_index("scan_id")["reason"].to_dict() == {
        "sub-ADNI123S0001_ses-M006": "session-not-listed",
        "sub-ADNI123S0002_ses-M006": "session-not-listed",
        "sub-ADNI123S0004_ses-M000": "session-not-listed",
        "sub-ADNI123S0005_ses-M000": "subject-not-listed",
    }
    printed = capsys.readouterr().out
    assert "7 scans are listed = 5 found + 2 not found" in printed and "4 scans take no part" in printed
    assert "of 1 found scans the published diagnosis is another; the scan table's counts" in printed
    assert listed["scan_id"].notna().sum() + len(unused) == len(scan_table()) - 1
    assert not (folder / "a.tsv").exists()


def test_a_drawn_split_leaves_no_stale_table_of_a_published_one(study):
    folder = study()
    (folder / "other").mkdir()
    (folder / "other" / "listed.tsv").write_text("not ours")
    for out in (folder / "splits.tsv", folder / "other" / "splits.tsv"):
        split(folder / "scans.tsv", Split(val_share=0.2, test_share=0.2), ["NACC"], out)
    assert not [p for p in folder.glob("*.tsv*") if p.name.startswith(("listed", "unused"))]
    assert (folder / "other" / "listed.tsv").read_text() == "not ours"


def test_the_published_diagnosis_wins_only_where_the_config_says_so(study):
    told = used(study(labels="published"))
    assert told["sub-ADNI123S0001_ses-M012"] == ("train", "CN")
    assert told["sub-ADNI123S0002_ses-M000"] == ("train", "MCI")  # theirs is blank
    assert told["sub-ADNI123S0005_ses-M000"] == ("unused", "CN")


def test_folds_depend_on_the_tables_alone(study, tmp_path):
    first = SPLIT.read(study(n_folds=2) / "splits.tsv").set_index("subject_id")["fold"]
    assert first.dropna().to_dict().keys() == {f"sub-ADNI123S000{i}" for i in (1, 2, 3)}
    SCANS.write(scan_table()[lambda t: t["subject_id"] != "sub-ADNI123S0001"], tmp_path / "scans.tsv")
    paths = {name: str(tmp_path / f"{name}.tsv") for name in TABLES}
    split(tmp_path / "scans.tsv", Split(published=Published(**paths), n_folds=2), ["NACC"], tmp_path / "splits.tsv")
    fewer = SPLIT.read(tmp_path / "splits.tsv").set_index("subject_id")["fold"]
    assert fewer.equals(first[fewer.index])


def test_one_table_alone_leaves_the_others_unused(study):
    told = used(study({"test": TABLES["test"]}))
    assert {split for split, _ in told.values()} == {"test", "external", "unused"}


HEAD = "participant_id\tsession_id\tdiagnosis\n"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({**TABLES, "val": TABLES["test"]}, "sub-ADNI123S0004 in val and test"),
        ({"train": HEAD + "sub-A1\tses-M00\tCN\nsub-A1\tses-M000\tCN\n"}, "more than once"),
        ({"train": HEAD + "sub-A1\tbaseline\tCN\n"}, "ses-M006, got 'baseline'"),
        ({"train": HEAD + "\tses-M00\tCN\n"}, "an id such as"),
        ({"train": HEAD + "../x\tses-M00\tCN\n"}, "an id such as"),
        ({"train": HEAD + "sub-A1\tses-M00\tVAD\n"}, "CN, MCI, AD or a blank, got 'VAD'"),
        ({"train": HEAD}, "at least one listed scan"),
        ({"train": "subject\tsession_id\nx\ty\n"}, "PARTICIPANT_ID"),
        ({"train": HEAD + "sub-A1\tses-M00\tCN\n"}, "none of the 1 listed ones"),
        ({"train": HEAD + "sub-NACC000001\tses-M00\tCN\n"}, "in the external cohort NACC"),
    ],
)
def test_tables_that_cannot_be_a_split_are_refused(study, tables, message):
    with pytest.raises(BadInput) as refused:
        study(tables)
    assert message in str(refused.value)


def test_unused_scans_are_counted_among_the_demographics(study):
    folder = study()
    demographics(folder / "scans.tsv", folder / "splits.tsv", folder / "d.tsv")
    rows = DEMOGRAPHICS.read(folder / "d.tsv").set_index(["cohort", "split", "diagnosis"])
    assert rows.loc[("ADNI", "unused", "all"), "scans"] == 4
    assert rows.xs("all", level="diagnosis")["scans"].sum() == len(scan_table())


VISITS = st.dictionaries(
    st.integers(0, 40),
    st.dictionaries(st.sampled_from([0, 6, 12, 24]), st.sampled_from(["CN", "MCI", "AD"]), min_size=1),
)


@settings(max_examples=30, deadline=None)
@given(visits=VISITS.filter(bool), comma=st.booleans())
def test_the_talks_table_counts_converters_in_each_class(visits, comma, tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    rows = [(f"sub-ADNI{s:03d}", f"ses-M{m:02d}", d, 60 + s) for s, months in visits.items() for m, d in months.items()]
    frame = pd.DataFrame(rows, columns=["participant_id", "session_id", "diagnosis", "age"])
    frame.to_csv(folder / "t.tsv", sep="," if comma else "\t", index=False)
    demographics_of_published(Published(test=str(folder / "t.tsv")), folder / "d.tsv")
    told = DEMOGRAPHICS.read(folder / "d.tsv").set_index("diagnosis")
    assert set(told["split"]) == {"test"} and told.loc["all", "subjects"] == len(visits)
    for name, group in frame.groupby("diagnosis"):
        assert told.loc[name, ["subjects", "scans"]].tolist() == [group["participant_id"].nunique(), len(group)]
        assert told.loc[name, "age_mean_years"] == pytest.approx(group["age"].mean())


def test_the_command_needs_no_images_and_tells_what_it_does_not_count(tmp_path):
    for name, text in TABLES.items():
        (tmp_path / f"{name}.tsv").write_text(text)
    step = [sys.executable, "-m", "elr_mri", "demographics", "--output", "d.tsv"]
    tables = ",".join(f"{name}={name}.tsv" for name in TABLES)
    done = subprocess.run([*step, "--published", tables], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 listed scans without a diagnosis are not counted (1 train)" in done.stdout
    rows = DEMOGRAPHICS.read(tmp_path / "d.tsv").set_index(["split", "diagnosis"])
    assert rows.loc[("train", "all"), ["subjects", "scans"]].tolist() == [2, 3]
    done = subprocess.run(step, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--published" in done.stderr


def test_tables_without_any_diagnosis_make_no_demographics(tmp_path):
    (tmp_path / "t.tsv").write_text("participant_id\tsession_id\nsub-A1\tses-M00\n")
    with pytest.raises(BadInput, match="a column diagnosis"):
        demographics_of_published(Published(train=str(tmp_path / "t.tsv")), tmp_path / "d.tsv")
    assert read_listed(Published(train=str(tmp_path / "t.tsv")))["subject_id"].tolist() == ["sub-A1"]


def test_the_config_names_at_least_one_table_and_each_once():
    with pytest.raises(BadInput, match="name a table"):
        config.parse(Split, {"published": {}}, where="config")
    with pytest.raises(BadInput, match="Did you mean 'train'"):
        config.published(["trian=a.tsv"])
    with pytest.raises(BadInput, match="each split once"):
        config.published(["train=a.tsv,train=b.tsv"])
    assert config.published(["train=a,b.tsv,val=c.tsv", "test=d.tsv"]).train == "a,b.tsv"
