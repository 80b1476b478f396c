"""The review: verdicts gathered, decisions count in both directions, and nothing else can be slipped in."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import strict_page
from PIL import Image
from test_cache import STATES, write_study

from elr_mri.config import Measure, Pack, Review
from elr_mri.errors import BadInput
from elr_mri.imaging import names
from elr_mri.imaging.cache import Cache, pack
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.picture import SHEET_PIXELS
from elr_mri.imaging.qc import LIMITS
from elr_mri.imaging.review import REVIEW, review
from elr_mri.imaging.template import MNI
from elr_mri.provenance import read_json, sidecar

PASSED, FAILED, LOOKED_AT, UNREAD = STATES


def go(folder, *decisions, header=("scan_id", "verdict", "note")):
    """Run `review` on a folder of `write_study`, with rows of decisions; returns review.tsv by scan_id."""
    path = None
    if decisions:
        path = str(folder / "decisions.tsv")
        (folder / "decisions.tsv").write_text("\n".join("\t".join(row) for row in (header, *decisions)) + "\n")
    review(folder / "scans.tsv", folder / "convert", folder / "register", Review(decisions=path), folder / "review")
    return REVIEW.read(folder / "review" / "review.tsv").set_index("scan_id")


def packed(folder):
    pack(
        folder / "scans.tsv",
        folder / "review" / "review.tsv",
        *(folder / step for step in ("convert", "register", "measure")),
        Pack(),
        folder / "pack",
    )
    status = pd.read_csv(folder / "pack" / "status.tsv", sep="\t", keep_default_na=False).set_index("scan_id")
    return list(Cache.read(folder / "pack").index["scan_id"]), status


def test_the_machine_has_the_last_word_where_nobody_speaks(tmp_path, capsys):
    write_study(tmp_path, STATES)
    told = go(tmp_path)
    assert list(told.index) == list(STATES)
    assert list(told["verdict"]) == ["pass", "fail", "review", "fail"] and set(told["decided_by"]) == {"qc"}
    assert told["step"][UNREAD] == "convert" and told["step"][FAILED] == "register"
    assert told["reasons"][UNREAD] == "cut short" and told["reasons"][FAILED] == "blurred"
    assert told["mask_dice"][PASSED] == 0.95 and np.isnan(told["mask_dice"][UNREAD])
    assert set(LIMITS) < set(told.columns)
    assert "1 pass, 1 review, 2 fail; 0 decided by a person" in capsys.readouterr().out


def test_a_person_overrules_in_both_directions_and_pack_obeys(tmp_path):
    write_study(tmp_path, STATES)
    go(tmp_path)
    assert packed(tmp_path)[0] == [PASSED, LOOKED_AT]
    told = go(tmp_path, (PASSED, "fail", "moved"), (FAILED, "pass", "=good, see page"), (LOOKED_AT, "pass", ""))
    assert list(told["verdict"]) == ["fail", "pass", "pass", "fail"]
    assert list(told["decided_by"]) == ["person", "person", "person", "qc"]
    kept, status = packed(tmp_path)
    assert kept == [FAILED, LOOKED_AT]
    assert status.loc[PASSED].to_dict() == {"step": "review", "status": "fail", "reason": "overruled by review: moved"}
    assert status["reason"][FAILED] == "overruled by review: =good, see page (quality control: fail: blurred)"
    assert (
        status["reason"][LOOKED_AT].startswith("overruled by review: no note") and status["step"][UNREAD] == "convert"
    )


def test_a_confirmed_verdict_says_so(tmp_path):
    write_study(tmp_path, STATES)
    told = go(tmp_path, (PASSED, "pass", "fine"), (UNREAD, "fail", "lost"))
    assert told["reasons"][PASSED] == "confirmed by review: fine"
    assert told["reasons"][UNREAD] == "confirmed by review: lost (quality control: fail: cut short)"


@pytest.mark.parametrize(
    "rows, words",
    [
        ([("sub-cc_ses-M000", "fail", "")], r"got 'sub-cc_ses-M000'.*Did you mean 'sub-c_ses-M000'"),
        ([("nobody", "fail", "")], r"got 'nobody'"),
        ([(PASSED, "fail", ""), (PASSED, "pass", "")], f"{PASSED} more than once"),
        ([(PASSED, "maybe", "")], r"one of pass, fail.*'maybe'"),
        ([(PASSED, "review", "")], r"one of pass, fail"),
        ([(UNREAD, "pass", "")], r"pass for sub-d_ses-M000, which has no registered image \(cut short\)"),
        ([("sub-e_ses-M000", "pass", "")], r"pass for sub-e_ses-M000, which has no registered image \(no brain"),
    ],
)
def test_a_wrong_decision_is_refused_in_one_line(tmp_path, rows, words):
    write_study(tmp_path, STATES | {"sub-e_ses-M000": "brainless"})
    with pytest.raises(BadInput, match=words) as told:
        go(tmp_path, *rows)
    assert "decisions.tsv" in str(told.value) and "\n" not in str(told.value)
    assert not (tmp_path / "review").exists()


def test_a_table_without_the_columns_or_the_file_is_refused(tmp_path):
    write_study(tmp_path, STATES)
    with pytest.raises(BadInput, match="verdict"):
        go(tmp_path, (PASSED, "fail", ""), header=("scan_id", "decision", "note"))
    with pytest.raises(BadInput, match="no such file"):
        review(
            tmp_path / "scans.tsv",
            tmp_path / "convert",
            tmp_path / "register",
            Review(decisions="absent.tsv"),
            tmp_path / "review",
        )


def test_pack_refuses_a_review_of_other_scans(tmp_path):
    write_study(tmp_path, STATES)
    go(tmp_path)
    lines = (tmp_path / "review" / "review.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "review" / "review.tsv").write_text("".join(lines[:-1]))
    with pytest.raises(BadInput, match="one row for every scan"):
        packed(tmp_path)


def test_an_unregistered_batch_is_told(tmp_path):
    write_study(tmp_path, STATES)
    (tmp_path / "register" / PASSED / f"{PASSED}_space-T_qc.json").unlink()
    with pytest.raises(BadInput, match="elr-mri register"):
        go(tmp_path)


def cards(page):
    return re.findall(r'<li class="scan (\w+)" data-verdict="(\w+)" id="([^"]+)"', page)


def test_the_page_shows_the_worst_first_with_lazy_relative_pictures(tmp_path):
    write_study(tmp_path, STATES | {"sub-f_ses-M000": "pass"})
    qc = tmp_path / "register" / "sub-f_ses-M000" / "sub-f_ses-M000_space-T_qc.json"
    told = read_json(qc)
    qc.write_text(json.dumps(told | {"numbers": told["numbers"] | {"mask_dice": 0.901}}))
    go(tmp_path, (LOOKED_AT, "pass", "<b>fine</b>"))
    page = (tmp_path / "review" / "review.html").read_text()
    assert [scan_id for _, _, scan_id in cards(page)][:3] == [UNREAD, FAILED, LOOKED_AT]
    assert [scan_id for _, _, scan_id in cards(page)][3:] == ["sub-f_ses-M000", PASSED]  # nearer its limit first
    assert "<b>fine</b>" not in page and "&lt;b&gt;fine" in page and page.count("decided by a person</span>") == 1
    assert "://" not in page and 'src="../register/sub-a_ses-M000/sub-a_ses-M000_space-T_qc.png" loading="lazy"' in page
    assert page.count("<img") == 4 and page.count("No picture") == 1
    assert re.search(r'class="out-fail"><dt>mask_dice</dt> <dd data-n="mask_dice">0.5<', page)


def test_the_page_runs_one_script_of_ours_and_shows_words_of_others_as_text(tmp_path):
    write_study(tmp_path, STATES)
    go(tmp_path, (PASSED, "fail", "<script>alert(1)</script><img src=x onerror=alert(1)>"))
    html = (tmp_path / "review" / "review.html").read_text()
    assert html.count("<script>") == 1
    assert "img-src 'self' file:;" in strict_page.check(html)
    assert "&lt;script&gt;alert(1)" in html and "onerror=alert(1)>" not in html


def test_five_thousand_scans_fit_on_a_page(tmp_path):
    scan_ids = [f"sub-{k:04d}_ses-M000" for k in range(5000)]
    write_study(tmp_path, dict.fromkeys(scan_ids, "unread"))
    go(tmp_path)
    page = (tmp_path / "review" / "review.html").read_text()
    assert len(cards(page)) == 5000 and len(page) < 20e6 and "<b>5,000</b> fail" in page


def test_the_same_inputs_give_the_same_bytes_and_a_record(tmp_path):
    for name in ("one", "two"):
        write_study(tmp_path / name, STATES)
        go(tmp_path / name)
    for file in ("review.tsv", "review.html"):
        assert (tmp_path / "one" / "review" / file).read_bytes() == (tmp_path / "two" / "review" / file).read_bytes()
    assert read_json(sidecar(tmp_path / "one" / "review" / "review.tsv"))["step"] == "review"


def test_a_scan_that_failed_quality_control_is_measured(study, tmp_path):
    folder, _, told = study
    scan_id = "sub-plain_ses-M000"
    copied = tmp_path / "register"
    copied.mkdir()
    for path in (folder / "register" / scan_id).iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    (copied / told[scan_id]["files"]["qc"]).write_text(
        json.dumps(told[scan_id] | {"status": "fail", "reason": "tilted"})
    )
    measured = measure_scan(copied, tmp_path / "measure", scan_id, Measure())
    assert measured["status"] == "fail" and measured["reason"] == "tilted"
    assert measured["volumes_mm3"]["hippocampus_left"] > 1000
    assert (tmp_path / "measure" / names.measured(scan_id, MNI)["volumes"]).is_file()


def test_the_picture_has_the_size_that_the_page_reserves(study):
    folder, _, told = study
    scan_id = "sub-plain_ses-M000"
    assert Image.open(folder / "register" / scan_id / told[scan_id]["files"]["picture"]).size == SHEET_PIXELS
