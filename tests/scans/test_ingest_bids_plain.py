"""Tables that users write: BIDS folders and plain lists of scans."""

from __future__ import annotations

import pytest

from elr_mri.errors import BadInput


@pytest.fixture
def bids(tmp_path, table_writer):
    """Write a BIDS folder: {participant: {session or "": image bytes}} and rows of participants.tsv."""

    def go(images: dict, rows: list[dict], sessions: dict | None = None):
        root = tmp_path / "bids"
        for participant, by_session in images.items():
            for session, content in by_session.items():
                folder = root / participant / session / "anat"
                folder.mkdir(parents=True, exist_ok=True)
                parts = [participant, session] if session else [participant]
                (folder / ("_".join(parts) + "_T1w.nii.gz")).write_bytes(content)
        table_writer(root / "participants.tsv", rows, delimiter="\t")
        for participant, own in (sessions or {}).items():
            table_writer(root / participant / f"{participant}_sessions.tsv", own, delimiter="\t")
        return root

    return go


PEOPLE = [
    {"participant_id": "sub-01", "AGE": 71.5, "Diagnosis": "Control", "Sex": "F"},
    {"participant_id": "sub-02", "AGE": 65, "Diagnosis": "Alzheimer's disease", "Sex": "male"},
]


def test_a_bids_folder_is_a_cohort(bids, run):
    root = bids({"sub-01": {"": b"a"}, "sub-02": {"": b"b"}}, PEOPLE)
    (root / "sub-01" / "anat" / "sub-01_T2w.nii.gz").write_bytes(b"t2")
    (root / "derivatives" / "x").mkdir(parents=True)
    (root / "derivatives" / "x" / "sub-01_T1w.nii.gz").write_bytes(b"derived")
    tables = run(("bids", root, "HOME"))
    scans = tables["scans"]
    assert scans["scan_id"].tolist() == ["sub-HOME01_ses-M000", "sub-HOME02_ses-M000"]
    assert scans[["age_years", "diagnosis", "sex"]].values.tolist() == [[71.5, "CN", "F"], [65.0, "AD", "M"]]
    assert tables["exclusions"]["reason"].tolist() == ["not-t1"]


def test_sessions_overrule_participants_and_visits_without_scans_are_kept(bids, run):
    root = bids(
        {"sub-01": {"ses-M000": b"a", "ses-M012": b"b"}},
        PEOPLE[:1],
        {
            "sub-01": [
                {"session_id": "ses-M000", "age": 71, "diagnosis": "CN"},
                {"session_id": "M012", "age": 72, "diagnosis": "MCI"},
                {"session_id": "ses-M024", "age": 73, "diagnosis": "AD"},
            ]
        },
    )
    tables = run(("bids", root, "HOME"))
    assert tables["scans"][["session_id", "diagnosis", "age_years"]].values.tolist() == [
        ["ses-M000", "CN", 71],
        ["ses-M012", "MCI", 72],
    ]
    assert tables["visits"][["months", "diagnosis"]].values.tolist() == [[0, "CN"], [12, "MCI"], [24, "AD"]]


def test_months_come_from_ages_where_sessions_are_numbered(bids, run):
    rows = [{"session_id": "ses-1", "age": 71}, {"session_id": "ses-2", "age": 72.5}]
    root = bids({"sub-01": {"ses-1": b"a", "ses-2": b"b"}}, PEOPLE[:1], {"sub-01": rows})
    assert run(("bids", root, "HOME"))["scans"]["session_id"].tolist() == ["ses-M000", "ses-M018"]


def test_sessions_that_cannot_be_ordered_are_refused(bids, run):
    root = bids({"sub-01": {"ses-1": b"a", "ses-2": b"b"}}, PEOPLE[:1])
    with pytest.raises(BadInput, match="months"):
        run(("bids", root, "HOME"))


def test_a_repeated_run_and_unknown_people_are_excluded(bids, run):
    root = bids({"sub-01": {"": b"a"}, "sub-09": {"": b"c"}}, PEOPLE)
    (root / "sub-01" / "anat" / "sub-01_run-2_T1w.nii").write_bytes(b"run 2")
    assert sorted(run(("bids", root, "HOME"))["exclusions"]["reason"]) == ["no-table-row", "other-scan-of-visit"]


@pytest.mark.parametrize("age", ["-4", "170", "old"])
def test_an_impossible_age_is_refused_with_file_column_and_row(bids, run, age):
    root = bids({"sub-01": {"": b"a"}, "sub-02": {"": b"b"}}, [PEOPLE[0], PEOPLE[1] | {"AGE": age}])
    with pytest.raises(BadInput, match=rf"participants.tsv, column age, row 3: expected an age .* got '{age}'"):
        run(("bids", root, "HOME"))


def test_a_fault_of_a_session_is_told_of_its_own_table(bids, run):
    rows = [{"session_id": "ses-M000", "age": 71}, {"session_id": "ses-M006", "age": -4}]
    root = bids({"sub-01": {"ses-M000": b"a", "ses-M006": b"b"}}, PEOPLE[:1], {"sub-01": rows})
    with pytest.raises(BadInput, match="sub-01_sessions.tsv, column age, row 3"):
        run(("bids", root, "HOME"))
    rows = [{"session_id": "ses-M000", "diagnosis": "CN"}, {"session_id": "ses-M006", "diagnosis": "MCI"}]
    root = bids({"sub-01": {"ses-M000": b"a"}}, [PEOPLE[0] | {"AGE": -4}], {"sub-01": rows})
    with pytest.raises(BadInput, match="participants.tsv, column age, row 2"):
        run(("bids", root, "HOME"))


def test_people_that_are_all_unknown_make_an_empty_cohort(bids, run):
    with pytest.raises(BadInput, match="at least one scan to keep.*1 no-table-row"):
        run(("bids", bids({"sub-09": {"": b"a"}}, PEOPLE), "HOME"))


def test_blank_ages_and_other_diagnoses_exclude(bids, run):
    people = [
        *PEOPLE,
        *(
            {"participant_id": f"sub-{i}", "AGE": a, "Diagnosis": d}
            for i, a, d in ((3, "", "AD"), (4, 60, "PD"), (5, 60, ""))
        ),
    ]
    root = bids({row["participant_id"]: {"": row["participant_id"].encode()} for row in people}, people)
    assert run(("bids", root, "HOME"))["exclusions"]["reason"].tolist() == ["no-age", "other-diagnosis", "no-diagnosis"]


def test_bids_needs_participants_and_their_columns(bids, run):
    root = bids({"sub-01": {"": b"a"}}, [{"participant_id": "sub-01", "age": 70}])
    with pytest.raises(BadInput, match="diagnosis"):
        run(("bids", root, "HOME"))
    (root / "participants.tsv").unlink()
    with pytest.raises(BadInput, match="participants.tsv"):
        run(("bids", root, "HOME"))


@pytest.fixture
def plain(tmp_path, table_writer):
    def go(rows: list[dict], name: str = "scans.tsv", delimiter: str = "\t"):
        path = table_writer(tmp_path / "mine" / name, rows, delimiter=delimiter)
        for row in rows:
            if row.get("image_path") and "gone" not in row["image_path"]:
                (path.parent / row["image_path"]).write_bytes(row["image_path"].encode())
        return path

    return go


def row(name: str, subject: str, age: object = 70, diagnosis: str = "CN", **cells) -> dict:
    return {"image_path": name, "subject_id": subject, "age_years": age, "diagnosis": diagnosis, **cells}


@pytest.mark.parametrize(("name", "delimiter"), [("scans.tsv", "\t"), ("scans.csv", ","), ("scans.tsv", ",")])
def test_a_plain_table_is_a_cohort(plain, run, name, delimiter):
    path = plain([row("a.nii", "s_1", 70.0), row("b.nii", "s_1", 72.0, "MCI"), row("gone.nii", "s_2")], name, delimiter)
    tables = run(("tsv", path, "MINE"))
    assert tables["scans"]["scan_id"].tolist() == ["sub-MINEs1_ses-M000", "sub-MINEs1_ses-M024"]
    assert tables["scans"]["image_path"].tolist() == [str(path.parent / "a.nii"), str(path.parent / "b.nii")]
    assert tables["exclusions"]["reason"].tolist() == ["missing-file"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a.nii", "1", -4)], "column age, row 2: expected an age .* got '-4'"),
        ([row("a.nii", "../up")], "subject id of letters and digits"),
        ([row("a.nii", "")], "column subject_id, row 2"),
        ([row("a.nii", "1"), row("a.nii", "2")], "one row for each image_path"),
        ([row("a.nii", "a-b"), row("b.nii", "ab")], "a-b and ab.*two subjects"),
        ([{"image_path": "a.nii", "subject_id": "1", "diagnosis": "CN"}], "column AGE_YEARS"),
    ],
)
def test_a_plain_table_that_its_author_must_mend(plain, run, rows, message):
    with pytest.raises(BadInput, match=message):
        run(("tsv", plain(rows), "MINE"))


@pytest.mark.parametrize("months", ["ses-M006", "ses-M06", "ses-M6"])
def test_a_bids_folder_as_clinica_writes_it(bids, run, months):
    people = [{"participant_id": "sub-ADNI011S0001", "sex": "F", "age_bl": 70.5, "diagnosis_sc": "AD"}]
    rows = [
        {"session_id": s, "diagnosis": d, "MMS": 28, "adni_hippocampus_vol": 6500, "adni_icv": 1.5e6, "apoe": 1}
        for s, d in (("ses-M000", "CN"), (months, "MCI"), ("ses-M012", "n/a"))
    ]
    images = {"ses-M000": b"a", months: b"b", "ses-M012": b"c"}
    tables = run(("bids", bids({"sub-ADNI011S0001": images}, people, {"sub-ADNI011S0001": rows}), "ADNI"))
    scans = tables["scans"]
    assert scans["scan_id"].tolist() == ["sub-ADNI011S0001_ses-M000", "sub-ADNI011S0001_ses-M006"]
    assert scans["age_years"].tolist() == [70.5, 71.0] and scans["diagnosis"].tolist() == ["CN", "MCI"]
    assert scans[["mmse", "hippocampus_mm3", "icv_mm3", "apoe4"]].iloc[0].tolist() == [28, 6500, 1.5e6, 1]
    assert tables["exclusions"]["reason"].tolist() == ["no-diagnosis"]  # never the one at enrolment
    assert tables["visits"]["age_years"].tolist() == [70.5, 71.0, 71.5]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["_T1w", "_acq-fast_T1w"], "_T1w"),
        (["_run-10_T1w", "_run-2_T1w"], "_run-2_T1w"),
        (["_ce-gad_T1w", "_run-1_T1w"], "_run-1_T1w"),
        (["_acq-b_T1w", "_acq-a_T1w", "_acq-a_rec-norm_T1w"], "_acq-a_T1w"),
        (["_part-phase_T1w", "_part-mag_T1w", "_UNIT1"], "_part-mag_T1w"),
    ],
)
def test_which_of_several_images_of_a_session_is_kept(bids, run, names, chosen):
    root = bids({"sub-01": {"": b"x"}}, PEOPLE[:1])
    (root / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    for name in names:
        (root / "sub-01" / "anat" / f"sub-01{name}.nii.gz").write_bytes(name.encode())
    tables = run(("bids", root, "HOME"))
    assert [path.rpartition("/")[2] for path in tables["scans"]["image_path"]] == [f"sub-01{chosen}.nii.gz"]
    assert len(tables["exclusions"]) == len(names) - 1


def test_blank_rows_of_a_spreadsheet_are_no_scans_and_lines_stay_true(plain, run):
    path = plain([row("a.nii", "1"), row("", "", "", ""), row("b.nii", "2", -4)], "scans.csv", ",")
    with pytest.raises(BadInput, match="row 4: expected an age"):
        run(("tsv", path, "MINE"))
    path = plain([row("a.nii", "1"), row("", "", "", "")])
    assert len(run(("tsv", path, "MINE"))["scans"]) == 1


def test_a_plain_table_under_other_column_names(plain, run):
    path = plain([{"image_path": "a.nii"}])
    path.write_text("Participant_ID;Path;Age;Group;Session_ID\nsub-01;a.nii;70;Control;ses-M06\n")
    assert run(("tsv", path, "MINE"))["scans"]["scan_id"].tolist() == ["sub-MINE01_ses-M006"]


@pytest.mark.parametrize("told", ["ses-M00", "M000"])
@pytest.mark.parametrize("folder", ["ses-M00", "ses-M000"])
def test_sessions_of_two_and_of_three_digits_are_one(bids, run, told, folder):
    rows = [{"session_id": told, "age": 71, "diagnosis": "MCI"}]
    root = bids({"sub-01": {folder: b"a"}}, PEOPLE[:1], {"sub-01": rows})
    assert run(("bids", root, "HOME"))["scans"][["session_id", "diagnosis"]].values.tolist() == [["ses-M000", "MCI"]]
    with pytest.raises(BadInput, match="sub-01_sessions.tsv.*ses-M000 more than once"):
        run(("bids", bids({}, PEOPLE[:1], {"sub-01": [*rows, {"session_id": "ses-M0"}]}), "HOME"))
