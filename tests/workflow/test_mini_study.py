"""The whole chain on a small study: everything is written, counted and connected; nothing is done twice."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import MINI, changed, run, truth

pytestmark = pytest.mark.xdist_group("mini")


def rules(finished) -> set[str]:
    """The rules that a run of Snakemake started, or would start."""
    return set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", finished.stdout, re.M))


def table(mini: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(mini / "results" / name, sep="\t")


def test_every_image_is_kept_or_excluded_with_a_reason(mini):
    scans, exclusions = table(mini, "scans/ingest/scans.tsv"), table(mini, "scans/ingest/exclusions.tsv")
    planted = truth(mini / "results")
    localizers = (planted["cohort"] == "NACC").sum()
    assert len(scans) + len(exclusions) == len(planted) + localizers
    assert exclusions["reason"].notna().all()


def test_given_labels_and_ages_are_those_of_the_downloads(mini):
    scans = table(mini, "scans/ingest/scans.tsv").merge(truth(mini / "results"), on="scan_id", validate="1:1")
    assert len(scans) == len(truth(mini / "results"))
    assert (scans["diagnosis"] == scans["given_label"]).all()
    adni = scans[scans["cohort_x"] == "ADNI"]
    assert (adni["age_years_x"] - adni["age_years_y"]).abs().max() < 0.15


def test_the_broken_scan_failed_and_is_counted_and_left_out(mini):
    planted = truth(mini / "results")
    broken = planted.loc[planted["broken"] == True, "scan_id"]  # noqa: E712  a blank is not True
    status = table(mini, "imaging/pack/status.tsv").set_index("scan_id")
    failed = set(status.index[status["status"] == "fail"])
    assert len(broken) == 1 and set(broken) <= failed and len(failed) < 0.2 * len(planted)
    assert set(table(mini, "imaging/pack/index.tsv")["scan_id"]) == set(planted["scan_id"]) - failed


def test_no_subject_stands_in_two_splits(mini):
    splits = table(mini, "scans/split/splits.tsv")
    assert splits["subject_id"].is_unique
    assert set(splits.loc[splits["cohort"] == "NACC", "split"]) == {"external"}


def test_every_model_predicts_every_packed_scan(mini):
    packed = set(table(mini, "imaging/pack/index.tsv")["scan_id"])
    for name in ("findings/baseline", "findings/fuse", "learning/wide-age-elr/seed-0", "learning/resnet18/seed-0"):
        predictions = table(mini, f"{name}/predictions.tsv")
        assert set(predictions["scan_id"]) == packed
        assert predictions[["p_cn", "p_mci", "p_ad"]].sum(axis=1).round(6).eq(1).all()


def test_the_report_is_whole_and_says_that_the_study_is_synthetic(mini):
    page = (mini / "results" / "report.html").read_text()
    for anchor in (
        "results",
        "demographics",
        "examples",
        "registration",
        "volumes",
        "learning",
        "roc",
        "baselines",
        "saliency",
        "reproduce",
    ):
        assert f'id="{anchor}"' in page
    assert "synthetic" in page.lower() and not re.search(r'(src|<link[^>]* href)="https?:', page)


def test_a_second_run_has_nothing_to_do(mini):
    again = run(mini, MINI)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout


def test_a_training_parameter_re_registers_nothing(mini):
    planned = rules(run(mini, changed(**{**MINI, "train": {**MINI["train"], "epochs": 2}}), "--dry-run"))
    assert "train" in planned and planned.isdisjoint(
        {"phantom", "ingest", "convert", "register", "measure", "review", "pack", "baseline"}
    )


def test_a_persons_decision_re_registers_nothing_and_its_edit_reviews_again(mini, tmp_path):
    decisions = tmp_path / "decisions.tsv"
    scan_id = table(mini, "imaging/pack/index.tsv")["scan_id"].iloc[0]
    decisions.write_text(f"scan_id\tverdict\tnote\n{scan_id}\tfail\tmoved\n")
    study = changed(**MINI, review={"decisions": str(decisions)})
    outputs = [mini / "results" / "imaging" / "review" / name for name in ("review.tsv", "review.html")]
    plain, times = outputs[0].read_bytes(), [(o.stat().st_atime_ns, o.stat().st_mtime_ns) for o in outputs]
    try:
        reviewed = run(mini, study, "results/imaging/review/review.tsv")
        assert reviewed.returncode == 0 and rules(reviewed) == {"review"}, reviewed.stdout[-4000:]
        told = table(mini, "imaging/review/review.tsv").set_index("scan_id").loc[scan_id]
        assert told["verdict"] == "fail" and told["decided_by"] == "person"
        assert rules(run(mini, study, "results/imaging/review/review.tsv", "--dry-run")) == set()
        planned = rules(run(mini, study, "--dry-run"))
        assert "pack" in planned and planned.isdisjoint({"phantom", "ingest", "convert", "register", "measure"})
        decisions.write_text(f"scan_id\tverdict\tnote\n{scan_id}\tpass\tlooked at again\n")
        assert "review" in rules(run(mini, study, "--dry-run"))
        decisions.write_text("scan_id\tverdict\tnote\nnobody\tfail\t\n")
        refused = run(mini, study, "results/imaging/review/review.tsv")
        assert refused.returncode != 0 and "elr-mri: " in refused.stdout and "got 'nobody'" in refused.stdout
    finally:
        again = run(mini, MINI, "results/imaging/review/review.tsv")
        for output, ns in zip(outputs, times):  # as if nothing had been: the other tests find the study as it was
            os.utime(output, ns=ns)
    assert again.returncode == 0 and outputs[0].read_bytes() == plain


def test_the_review_page_shows_every_scan(mini):
    page = (mini / "results" / "imaging" / "review" / "review.html").read_text()
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert pictures and all((mini / "results" / "imaging" / "review" / name).is_file() for name in pictures)
    assert page.count('<li class="scan') == len(table(mini, "scans/ingest/scans.tsv"))
    assert 'href="imaging/review/review.html"' in (mini / "results" / "report.html").read_text()


def test_changed_scans_under_the_same_names_are_converted_again(mini):
    image = mini / "results" / "phantom" / truth(mini / "results").query("cohort == 'ADNI'")["image"].iloc[0]
    modified = image.stat()
    os.utime(image, ns=(modified.st_atime_ns, modified.st_mtime_ns + 10**9))
    planned = run(mini, MINI, "--dry-run")
    os.utime(image, ns=(modified.st_atime_ns, modified.st_mtime_ns))
    assert re.search(r"^(?:local)?rule convert:", planned.stdout, re.M)


def test_the_page_tells_no_folder_of_the_data(mini):
    assert "results/phantom/ADNI" not in (mini / "results" / "report.html").read_text()


def test_model_folders_hold_no_pickle_and_say_what_they_were_trained_on(mini):
    folder = mini / "results" / "learning" / "wide-age-elr" / "seed-0"
    assert not [p for p in folder.rglob("*") if p.suffix in {".pt", ".pth", ".pkl"}]
    facts = json.loads((folder / "model.json").read_text())
    assert facts["trained_on"]["cohorts"] == ["ADNI"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trian": {}}, "train"),
        ({"train": {**MINI["train"], "epoch": 3}}, "epochs"),
        ({"phantom": {**MINI["phantom"], "n_subject": 3}}, "n_subjects"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_one(tmp_path, change, told):
    refused = run(tmp_path, {**MINI, **change}, "--dry-run")
    assert refused.returncode == 2 and f"Did you mean '{told}'?" in refused.stdout


def test_volumes_of_another_source_register_nothing_and_are_read_again_when_they_change(mini, tmp_path):
    table = tmp_path / "vol.csv"
    table.write_text("subject,left hippocampus\n")
    other = changed(**{**MINI, "measure": {"source": "synthseg", "path": str(table)}})
    planned = run(mini, other, "--dry-run")
    rules = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", planned.stdout, re.M))
    assert {"measure", "pack", "baseline"} <= rules and rules.isdisjoint({"ingest", "convert", "register"})


def test_ablations_are_planned_only_where_they_are_asked_for(tmp_path):
    study = changed(**{**MINI, "ablations": {"base": "resnet18", "variants": {"wider": {"width": 2}}}})
    asked, plain = (run(tmp_path, study, *targets, "--dry-run") for targets in (["ablations"], []))
    assert asked.returncode == plain.returncode == 0, asked.stdout[-4000:]
    assert {"evaluate_ablations", "report", "ablations"} <= rules(asked)
    trained = [set(re.findall(r"learning/([a-z0-9-]+)/seed-0/model.safetensors", one.stdout)) for one in (asked, plain)]
    assert trained == [{"wide-age-elr", "resnet18", "wider"}, {"wide-age-elr", "resnet18"}]


def test_ablations_are_trained_beside_their_base_and_stay_in_the_report(mini):
    study = changed(**{**MINI, "ablations": {"base": "resnet18", "variants": {"smaller-kernel": {"first_kernel": 5}}}})
    page, learned = mini / "results" / "report.html", mini / "results" / "learning"
    assert 'id="ablations"' not in page.read_text()
    try:
        made = run(mini, study, "ablations")
        assert made.returncode == 0, made.stdout[-4000:]
        assert rules(made) == {"train", "predict", "evaluate_ablations", "report", "ablations"}
        assert 'id="ablations"' in page.read_text() and "first_kernel 5" in page.read_text()
        told = table(mini, "findings/tables/ablations.tsv")
        assert list(dict.fromkeys(told["model"])) == ["resnet18", "smaller-kernel"]
        scored = table(mini, "findings/tables/results.tsv").query("model == 'resnet18'")
        own = told.query("model == 'resnet18'")
        np.testing.assert_array_equal(own["value"], scored["value"])  # NaN where a class is absent
        assert own["n_scans"].max() == scored["n_scans"].max()
        facts = [json.loads((learned / m / "seed-0" / "model.json").read_text()) for m in told["model"].unique()]
        assert facts[0]["n_parameters"] - facts[1]["n_parameters"] == 8 * (7**3 - 5**3)
        assert list(told["n_parameters"].unique()) == [one["n_parameters"] for one in facts]
        again = run(mini, study)
        assert again.returncode == 0 and "Nothing to be done" in again.stdout
    finally:
        for folder in (learned / "smaller-kernel", mini / "results" / "findings" / "ablations"):
            shutil.rmtree(folder, ignore_errors=True)
        without = run(mini, MINI)  # as if nothing had been: the other tests find the study as it was
    assert without.returncode == 0 and rules(without) == {"report", "all"}, without.stdout[-4000:]
    assert 'id="ablations"' not in page.read_text() and len(table(mini, "findings/tables/ablations.tsv")) == 0


def test_the_readme_of_results_tells_every_file(mini):
    """Every folder by its row, and every file of `findings` and every table, model and map by its name."""
    readme = (Path(__file__).parents[2] / "results" / "README.md").read_text()
    seen = set()
    for path in (mini / "results").rglob("*"):
        inside = path.relative_to(mini / "results")
        if (
            path.is_dir()
            or inside.parts[0] in ("phantom", "logs")
            or path.name.startswith(".")
            or "batches" in inside.parts
        ):
            continue
        seen.add("/".join(inside.parts[: min(2, len(inside.parts) - 1)]))
        name = (
            path.name.removesuffix(".json") if (path.parent / path.name.removesuffix(".json")).is_file() else path.name
        )
        told = re.sub(r"^sub-\w+_ses-\w+?(?=_|\.)|CN|MCI|AD", "", name)
        if (
            inside.parts[0] in ("scans", "findings", "learning")
            and "figures" not in inside.parts
            and not {"events", "state"} & set(inside.parts)
        ):
            assert name in readme or told in re.sub("<class>|<scan_id>", "", readme), str(inside)
    for folder in sorted(seen - {""}):
        zone, _, step = folder.partition("/")
        assert f"`{folder}" in readme or f"`{zone}/<" in readme or f"`{zone}/{step}`" in readme, folder
