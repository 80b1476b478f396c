"""What leaves the house names no one: no id, no date, no small count; the key stays behind and the codes stay the same."""

import html as markup
import json
import re

import numpy as np
import pandas as pd
import pytest
import tiny_study as study

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings import accounting, privacy, reproduce, style, who
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.report import report
from elr_mri.findings.tables import RESULTS
from elr_mri.imaging.cache import STATUS
from elr_mri.imaging.labels import ROI_TABLE
from elr_mri.scans.demographics import DEMOGRAPHICS
from elr_mri.scans.table import CLASSES, NOTES, SCANS


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The study's tables, and its page as it is by default and in the house; text in figures stays text."""
    root = tmp_path_factory.mktemp("private")
    made = study.make(root, n_subjects=16)
    study.add_pictures(made)
    scans = made.scans.assign(
        image_uid=[f"I{100234 + k}" for k in range(len(made.scans))],
        site=[f"{k % 7:03d}" for k in range(len(made.scans))],
        image_path=[
            f"{s}/2009-0{1 + k % 9}-1{k % 9}_10_30_00.0/S{20000 + k}/x.nii"
            for k, s in enumerate(made.scans["subject_id"])
        ],
    )
    SCANS.write(scans, root / "scans.tsv")
    told = f"{scans['image_uid'][3]} of {scans['subject_id'][3]}, {scans['scan_id'][3]}, 2011-03-04 (04/25/2011, 20110304103000), 011_S_0003, {scans['image_path'][3]}"
    states = made.scans[["scan_id"]].assign(step="pack", status="pass", reason="")
    states.loc[3, ["step", "status", "reason"]] = ["register", "fail", f"no brain: {told}"]
    states.loc[5, "status"] = "review"
    STATUS.write(states, root / "pack" / "status.tsv")
    rois = ROI_TABLE.read(root / "pack" / "roi_volumes.tsv")
    rois.loc[7, "note"] = f"looks odd: {told}"
    ROI_TABLE.write(rois, root / "pack" / "roi_volumes.tsv")
    notes = {
        "cohort": "ADNI",
        "subject_id": ["sub-ADNI0001", "sub-7"],
        "months": 0,
        "note": [told, "subject 7: " + told],
    }
    NOTES.write(pd.DataFrame(notes), root / "notes.tsv")
    folder = study.predict(made, "wide", noise=0.5)
    evaluate(prediction_paths=[folder / "predictions.tsv"], settings=config.Evaluate(draws=100), out_dir=root / "findings")  # fmt: skip

    def page(name, *, real=False, **settings):
        tested = study.settings(made).model_copy(update={"phantom": None if real else config.Phantom()})
        kept, style.RC["svg.fonttype"] = style.RC["svg.fonttype"], "none"
        try:
            written = report(
                tables_dir=root / "findings" / "tables",
                scans_path=root / "scans.tsv",
                pack_dir=root / "pack",
                settings=config.Report(reference="wide", **settings),
                study=tested,
                page_path=root / name / "report.html",
                figures_dir=root / name / "figures",
                exclusions_path=root / "exclusions.tsv",
                splits_path=root / "splits.tsv",
                notes_path=root / "notes.tsv",
                demographics_path=root / "demographics.tsv",
                register_dir=root / "register",
                review_path=root / "review.html",
            )
        finally:
            style.RC["svg.fonttype"] = kept
        drawn = "".join(path.read_text() for path in sorted((root / name / "figures").glob("*.svg")))
        embedded = re.sub(r'"data:[^"]*"', "", written.read_text(encoding="utf-8"))
        return markup.unescape(embedded + re.sub(r'xlink:href="data:[^"]*"', "", drawn))

    return root, scans, page("out"), page("house", in_house=True), page("people", real=True)


def _names(scans):
    """Every id and date of a study, as text that must not be found."""
    ids = {*scans["scan_id"], *scans["subject_id"], *scans["image_uid"], "011_S_0003"}
    paths = {part for path in scans["image_path"] for part in path.split("/") if re.search(r"\d{3}", part)}
    return ids | {name.removeprefix("sub-") for name in ids} | paths | {"2011-03-04", "04/25/2011", "20110304"}


def test_the_page_and_its_figures_hold_no_id_and_no_date(pages):
    _, scans, out, *_ = pages
    assert not [name for name in _names(scans) if name in out]
    assert "ADNI-00" in out and "no brain: … of …" in out and "looks odd: … of …" in out
    listed = out.split("To be looked at")[1].split("</section>")[0]
    assert "…" in listed and "<td" in listed and "a subject" not in listed  # everyone has a code


def test_in_the_house_the_page_shows_them_and_says_that_it_must_stay(pages):
    _, scans, out, house, _ = pages
    for name in (scans["scan_id"][3], scans["subject_id"][3], scans["image_uid"][3], "2011-03-04"):
        assert name in house, name
    assert "In-house copy" in house and "In-house copy" not in out
    assert "stays in the house" in out and "stays in the house" not in house


def test_the_key_lies_apart_and_names_every_scan(pages):
    root, scans, out, *_ = pages
    codes = privacy.CODES.read(root / "findings" / "private" / "codes.tsv")
    assert set(codes["scan_id"].dropna()) == set(scans["scan_id"]) and codes["code"].is_unique
    assert set(re.findall(r"(?:ADNI|NACC)-\d{4}(?:/\d+)?", out)) <= set(codes["code"]) | {c.split("/")[0] for c in codes["code"]}  # fmt: skip


def test_of_people_no_scan_and_no_single_value_is_shown(pages):
    """Phantoms are no one, and so their page shows more; this is a study of people, as it leaves the house."""
    root, scans, _, _, people = pages
    figures = {path.name for path in (root / "people" / "figures").iterdir()}
    assert not {"examples.png", "registration.png"} & figures and "volumes.svg" in figures
    dots = '<g id="PathCollection'
    drawn = [(root / name / "figures" / "volumes.svg").read_text() for name in ("people", "out")]
    assert dots not in drawn[0] and dots in drawn[1]
    assert people.count("in in-house copies") >= 3 and "looks odd: … of …" in people
    listed = people.split("To be looked at")[1].split("</section>")[0]
    assert "each on one person" in listed and "<td" not in listed
    assert not [name for name in _names(scans) if name in people]


def test_a_group_of_fewer_than_five_people_is_not_scored_on_the_page(pages):
    """Of this study four subjects are tested, and four validate."""
    root, _, out, _, people = pages
    results = RESULTS.read(root / "findings" / "tables" / "results.tsv")
    assert privacy.tiny(results) == {("ADNI", "test"), ("ADNI", "val")} and ("ADNI test" in results_of(out)) > (
        "ADNI test" in results_of(people)
    )
    assert (
        "8 scans of 4 subjects" in out
        and not re.search(r"\b[1-4] subjects", people)
        and "NACC (external)" in results_of(people)
    )
    assert "One group of fewer than five people is not told of" in people and "&lt;5 subjects" in markup.escape(
        people, quote=False
    )


def results_of(page):
    """The section of results."""
    return page.split('<section id="results">')[1].split("</section>")[0]


def test_codes_cannot_be_made_again_from_what_the_page_tells(pages):
    root, scans, out, *_ = pages
    secret = (root / "findings" / "private" / "key").read_text().strip()
    assert len(secret) == 64 and secret not in out
    codes = privacy.CODES.read(root / "findings" / "private" / "codes.tsv").dropna(subset=["scan_id"])
    for digest in re.findall(r"\b[0-9a-f]{64}\b", out):
        again = privacy.coded(scans, None, None, digest).set_index("scan_id")["code"]
        assert (again[codes["scan_id"]].to_numpy() != codes["code"].to_numpy()).any()


def test_groups_with_a_small_class_are_not_told_by_class():
    groups = {("A", "test"): (20, 15, 3), ("B", "external"): (9, 9, 9), ("C", "external"): (9, 9, 6)}
    rows = [(*place, c, n) for place, counts in groups.items() for c, n in zip(CLASSES, counts, strict=True)]
    table = pd.DataFrame(rows, columns=["cohort", "split", "diagnosis", "n_scans"]).assign(model="m", seed=0)
    people = table.rename(columns={"split": "stage", "n_scans": "n_subjects"})
    people.loc[people["cohort"] == "C", "n_subjects"] = [9, 9, 2]  # six scans of two people
    assert set(privacy.enough(table, table, people)["cohort"]) == {"B"}


def test_a_reason_that_is_the_only_one_is_not_told():
    """Found less kept tells how many were excluded; why they were would then be told of one to four people."""
    columns = ["stage", "cohort", "reason", "n_images", "n_subjects"]
    rows = [("found", "A", None, 12, 12), ("excluded", "A", "other-diagnosis", 2, 2), ("kept", "A", None, 10, 10)]
    counted = pd.DataFrame(rows, columns=columns).assign(diagnosis=None)
    told = accounting.lines(counted, in_house=False)[1]
    assert "another" not in told["what"] and "in-house" in told["what"] and "dementia" not in told["what"]
    assert accounting.words("other-diagnosis") in accounting.lines(counted, in_house=True)[1]["what"]
    many = counted.assign(n_images=[30, 20, 10], n_subjects=[30, 20, 10])
    assert accounting.words("other-diagnosis") in accounting.lines(many, in_house=False)[1]["what"]


def test_a_folder_with_blanks_is_cut_from_words_and_commands(tmp_path):
    scans = _scans(3).assign(image_uid=None, session_id="ses-M000", image_path=[f"/data/Jo Doe/my study/{k}/x.nii" for k in "aabbcc"])  # fmt: skip
    called = privacy.names(scans, None, tmp_path / "private" / "codes.tsv", in_house=False)
    assert called.words("cannot read /data/Jo Doe/my study/a/x.nii: too short") == "cannot read …x.nii: too short"
    made = tmp_path / "out.tsv"
    command = "elr-mri ingest --cohorts '[{\"path\": \"/data/Jo Doe/ADNI\"}, {\"path\": \"my study/NACC\"}]' --config '{}' --output='/data/Jo Doe/a b/out' '/data/Jo Doe/a b/scans.tsv'"
    provenance.write_json(provenance.sidecar(made), {"step": "ingest", "command": command})
    cohorts = [config.Cohort(name="A", format="adni", path="/data/Jo Doe/ADNI"), config.Cohort(name="B", format="nacc", path="my study/NACC")]  # fmt: skip
    tested = config.Study(cohorts=tuple(cohorts), measure=config.Measure(labels="/data/Jo Doe/labels.nii.gz"))
    ((_, told),) = reproduce.commands([made], tested)
    assert (
        told
        == 'elr-mri ingest --cohorts \'[{"path": "ADNI"}, {"path": "NACC"}]\' --config \'{}\' --output=…/out …/scans.tsv'
    )
    assert "Doe" not in reproduce.shown(tested) and "labels.nii.gz" in reproduce.shown(tested)


@pytest.mark.parametrize("name", ("subgroups", "progression", "shift"))
def test_a_config_that_would_tell_small_counts_is_refused_unless_the_page_stays_in_the_house(name):
    given = {"cohorts": [{"name": "A", "format": "adni", "path": "a"}], name: {"min_cell": 3}}
    with pytest.raises(BadInput, match=f"{name}.min_cell must be 5 at least unless report.in_house is true, got 3"):
        config.study(json.dumps(given))
    assert getattr(config.study(json.dumps(given | {"report": {"in_house": True}})), name).min_cell == 3


def _scans(n, visits=2):
    rows = [
        ("ADNI", f"sub-{i:03d}", f"sub-{i:03d}_ses-M{12 * v:03d}", 12.0 * v) for i in range(n) for v in range(visits)
    ]
    return pd.DataFrame(rows, columns=["cohort", "subject_id", "scan_id", "months"])


def test_codes_stay_when_the_study_grows_and_tell_no_order():
    before = privacy.coded(_scans(40), None, None, "secret").set_index("scan_id")["code"]
    grown = privacy.coded(_scans(60, 3), None, before.reset_index().assign(cohort="ADNI", subject_id=lambda t: t["scan_id"].str[:7]), "another")  # fmt: skip
    after = grown.set_index("scan_id")["code"]
    pd.testing.assert_series_equal(after[before.index], before)
    assert after.is_unique and len(after) == 180 and after["sub-000_ses-M024"] == before["sub-000_ses-M000"].replace("/1", "/3")  # fmt: skip
    first = before[before.str.endswith("/1")].sort_index().str[5:9].astype(int).to_numpy()
    assert abs(np.corrcoef(first, np.arange(40))[0, 1]) < 0.5 and sorted(first) == list(range(1, 41))
    assert not before.equals(privacy.coded(_scans(40), None, None, "other").set_index("scan_id")["code"])


def test_who_left_the_study_keeps_the_code():
    before = privacy.coded(_scans(3), None, None, "k")
    after = privacy.coded(_scans(2), None, before, "k")
    assert set(map(tuple, before.to_numpy())) == set(map(tuple, after.to_numpy()))


@pytest.mark.parametrize(
    ("counts", "texts"),
    [
        ({"CN": 14, "MCI": 11, "AD": 3}, {"CN": "14", "MCI": "hidden", "AD": "<5"}),
        ({"CN": 4, "MCI": 11, "AD": 3}, {"CN": "<5", "MCI": "11", "AD": "<5"}),
        ({"CN": 14, "MCI": 11, "AD": 5}, {"CN": "14", "MCI": "11", "AD": "5"}),
        ({"CN": 1400, "MCI": 0, "AD": 5}, {"CN": "1,400", "MCI": "0", "AD": "5"}),
        ({"CN": 14, "MCI": 0, "AD": 1}, {"CN": "hidden", "MCI": "0", "AD": "<5"}),
        ({"CN": 20, "MCI": 1, "AD": 1}, {"CN": "hidden", "MCI": "<5", "AD": "<5"}),
    ],
)
def test_small_counts_are_hidden_with_the_one_that_would_give_them_away(counts, texts):
    assert privacy.told(counts) == texts


def test_small_classes_are_hidden_in_the_demographic_table(tmp_path):
    classes = ("CN", "MCI", "AD", "all")
    table = pd.DataFrame({"cohort": "ADNI", "split": "val", "diagnosis": classes, "subjects": [14, 11, 3, 26], "scans": [21, 13, 5, 39], "age_mean_years": 70.25, "age_sd_years": 2.0, "female_share": [0.5, 0.91, 0.5, 0.6]})  # fmt: skip
    DEMOGRAPHICS.write(table, tmp_path / "d.tsv")
    cn, mci, ad, every = who.demographic_rows(tmp_path / "d.tsv", in_house=False)
    assert (cn["subjects"], mci["subjects"], ad["subjects"], every["subjects"]) == ("14", "hidden", "<5", "26")
    assert (ad["scans"], mci["scans"]) == ("5", "13") and ad["age"] == "–" and cn["age"] == "70.2 (2.0)"
    assert mci["women"] == "–" and cn["women"] == "50 %"  # one man in eleven
    assert who.demographic_rows(tmp_path / "d.tsv", in_house=True)[2]["subjects"] == "3"


def test_small_classes_and_personal_reasons_are_hidden_in_the_flow():
    rows = [
        ("found", None, None, 60, 40), ("excluded", "withdrawn", None, 2, 2), ("excluded", "not-t1", None, 3, 3), ("excluded", "no-diagnosis", None, 9, 6),
        ("kept", None, None, 46, 30), ("failed", "quality-control", None, 1, 1), ("packed", None, None, 45, 30), ("review", None, None, 0, 0),
        ("val", None, None, 45, 30), ("val", None, "CN", 30, 20), ("val", None, "MCI", 12, 8), ("val", None, "AD", 3, 2),
    ]  # fmt: skip
    table = accounting.ACCOUNTING.validate(pd.DataFrame([{"stage": s, "cohort": "ADNI", "reason": r, "diagnosis": d, "n_images": i, "n_subjects": n} for s, r, d, i, n in rows]), where="test")  # fmt: skip
    told = {
        (row["stage"], row["what"]): (row["n_images"], row["n_subjects"])
        for row in accounting.lines(table, in_house=False)
    }
    by_stage = [value for (stage, _), value in told.items() if stage == "excluded"]
    assert by_stage == [("<5", "<5"), ("hidden", "<5"), ("9", "6")]
    assert next(v for (s, _), v in told.items() if s == "failed") == ("1", "<5")
    val = next(box for box in accounting.flow(table, in_house=False)["ADNI"] if box.stage == "val")
    assert dict(val.lines) == {"all": "30 / 45", "CN": "20 / 30", "MCI": "hidden / hidden", "AD": "<5 / <5"}
    exact = next(box for box in accounting.flow(table)["ADNI"] if box.stage == "val")
    assert dict(exact.lines)["AD"] == "2 / 3"


def test_words_lose_ids_and_dates_however_they_are_written():
    called = privacy.Names(privacy.coded(_scans(3), None, None, "k"))
    for word in (
        "002_s_0295",
        "002S0295",
        "sub-adni002s0295",
        "18-Apr-2006",
        "RID 295",
        "1.2.840.113619.2.5.1762583153",
        "/nfs/lab/jane/x.nii",
    ):
        said = called.words(f"DXSUM has {word}: row left out")
        assert word not in said and "295" not in said and "jane" not in said, said


def test_words_keep_what_names_no_one():
    called = privacy.Names(privacy.coded(_scans(3), None, None, "k"), ["I100234"])
    said = "field strength 1.5 T, 12 months, local correlation 0.68, 176×256×256, subject sub-001 (001), I100234"
    assert called.words(said) == said.replace("sub-001", "…").replace("I100234", "…")
    assert called.words(said, "001") == said.replace("sub-001", "…").replace("I100234", "…").replace("(001)", "(…)")
    assert privacy.Names(None).words(said) == said and provenance.digest_json(said)
