"""Every image is accounted for; copies are removed; cohorts are kept apart."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans.cohort import REASONS
from elr_mri.scans.duplicates import first_copies
from elr_mri.scans.ingest import ingest
from elr_mri.scans.table import EXCLUSIONS, NOTES, VISITS, read_scans


def small_study(adni, nacc):
    for rid in (1, 2, 3):
        adni.visit(rid, "bl", "2006-01-10", ("CN", "MCI", "Dementia")[rid - 1])
        adni.image(rid, "2006-01-20", rid)
    nacc.visit(5, "2012-03-01", 1)
    nacc.session(5, "2012-03-01", "mri5.zip")
    nacc.archive("mri5.zip", {"T1": b"nacc image", "T2": b"t2"})
    return ("adni", adni.write()), ("nacc", nacc.write())


def test_tables_obey_their_contracts_and_carry_sidecars(adni, nacc, run, tmp_path, capsys):
    run(*small_study(adni, nacc))
    out = tmp_path / "out"
    assert len(read_scans(out / "scans.tsv")) == 4
    for name, schema in (("exclusions", EXCLUSIONS), ("visits", VISITS), ("notes", NOTES)):
        schema.read(out / f"{name}.tsv")
        assert json.loads((out / f"{name}.tsv.json").read_text())["step"] == "ingest"
    assert "ingest NACC: 2 images found = 1 kept + 1 excluded (1 not-t1)" in capsys.readouterr().out


def test_a_second_run_writes_the_same_bytes(adni, nacc, run, tmp_path):
    study = small_study(adni, nacc)
    run(*study)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.tsv")}
    adni.merge.reverse()
    adni.write()
    run(*study)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.tsv")}


def test_byte_duplicates_are_removed_across_cohorts(adni, nacc, run):
    study = small_study(adni, nacc)
    adni.image(1, "2006-01-20", 1, content=b"same picture")
    nacc.archive("mri5.zip", {"T1": b"same picture", "T2": b"another t2"})
    nacc.visit(6, "2012-03-01", 3)
    nacc.session(6, "2012-03-01", "mri6.zip")
    nacc.archive("mri6.zip", {"T1": b"Same picture"})  # of equal size, not equal
    nacc.write()
    tables = run(*study)
    copy = tables["exclusions"].query("reason == 'duplicate-image'")
    assert copy["subject_id"].tolist() == ["sub-NACC000005"]
    assert copy["detail"].item().startswith("same as") and "I1.nii" in copy["detail"].item()
    assert "sub-NACC000006" in set(tables["scans"]["subject_id"])


def test_the_same_people_in_two_cohorts_are_refused(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    root = adni.write()
    with pytest.raises(BadInput, match="sub-ADNI011S0001 ses-M000 in ONE and TWO"):
        run(("adni", root, "ONE"), ("adni", root, "TWO"))


def test_empty_and_missing_cohorts_are_refused(adni, tmp_path, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    root = adni.write()
    with pytest.raises(BadInput, match="at least one image, got none"):
        run(("adni", root))
    for kind in ("adni", "nacc", "bids"):
        with pytest.raises(BadInput, match="no such folder"):
            run((kind, tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="no such file"):
        run(("tsv", tmp_path / "nowhere.tsv"))
    with pytest.raises(BadInput, match="at least one cohort"):
        ingest([], Ingest(), tmp_path / "out")
    twice = [Cohort(name="A", format="adni", path=str(root))] * 2
    with pytest.raises(BadInput, match="own name"):
        ingest(twice, Ingest(), tmp_path / "out")


def test_hidden_files_and_link_loops_are_passed_over(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    path = adni.image(1, "2006-01-20", 1)
    path.with_name("._" + path.name).write_bytes(b"resource fork")
    (path.parent / "loop").symlink_to(adni.root)
    tables = run(("adni", adni.write()))
    assert (len(tables["scans"]), len(tables["exclusions"])) == (1, 0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_found_is_kept_plus_excluded_whatever_the_tables_hold(adni, run, data):
    shutil.rmtree(adni.root, ignore_errors=True)
    adni.merge.clear()
    adni.dxsum.clear()
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    cell = st.sampled_from(
        ["", "-4", "NA", "CN", "Dementia", "m12", "2007-01-10", "garbage", "1/15/2007", "75", "999999"]
    )
    for column in data.draw(
        st.lists(st.sampled_from(["RID", "VISCODE", "EXAMDATE", "AGE", "DX", "PTGENDER"]), max_size=4)
    ):
        adni.visit(2, "m12", "2007-01-10", "MCI", **{column: data.draw(cell)})
    uids = data.draw(st.lists(st.integers(2, 30), unique=True, max_size=6))
    for uid in uids:
        adni.image(
            data.draw(st.sampled_from([1, 2, 3])),
            data.draw(st.sampled_from(["2006-02-01", "2007-01-20", "2019-13-40"])),
            uid,
            description=data.draw(st.sampled_from(["MPRAGE", "Axial_T2", "MT1__N3m"])),
            suffix=data.draw(st.sampled_from([".nii", ".nii.gz", ".dcm", ".mgz"])),
        )
    tables = run(("adni", adni.write()))
    on_disk = sum(1 for p in adni.root.rglob("*_I*") if p.is_file())
    assert len(tables["scans"]) + len(tables["exclusions"]) == on_disk == 1 + len(uids)
    assert set(tables["exclusions"]["reason"]) <= set(REASONS)


@given(st.lists(st.binary(max_size=3), max_size=12))
@settings(max_examples=40, deadline=None)
def test_copies_are_exactly_the_repeated_contents(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("copies")
    paths = [folder / f"{i}.nii" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    expected = {i: contents.index(c) for i, c in enumerate(contents) if c and contents.index(c) < i}
    assert first_copies([str(p) for p in paths]) == expected


def test_every_reason_has_its_sentence():
    assert all(len(sentence) > 10 for sentence in REASONS.values())


def test_a_cohort_may_lie_in_the_home_folder(adni, run, monkeypatch):
    """`~` is read once, with the section: Python takes it for a folder of that name."""
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    monkeypatch.setenv("HOME", str(adni.write().parent))
    cohort = Cohort(name="ADNI", format="adni", path="~/adni", tables="~/tables")
    assert (cohort.path, cohort.tables) == (str(adni.root), str(adni.root.parent / "tables"))
    assert len(run(cohort)["scans"]) == 1
    assert Cohort(name="X", format="tsv", path="./a~b/").path == "./a~b/"  # else as it was written
