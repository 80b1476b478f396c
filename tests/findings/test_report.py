"""The page holds every section, escapes what it is given, loads nothing, and says what is missing."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest
import strict_page
import tiny_study as study

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings import page as page_module
from elr_mri.findings import style
from elr_mri.findings.baseline import baseline
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.figures import Pictures, draw_volumes
from elr_mri.findings.fuse import fuse
from elr_mri.findings.report import report
from elr_mri.findings.reproduce import commands, shown
from elr_mri.imaging.cache import STATUS
from elr_mri.imaging.labels import REGIONS
from elr_mri.scans.table import EXCLUSIONS, NOTES

SECTIONS = (
    "methods",
    "demographics",
    "accounting",
    "examples",
    "registration",
    "volumes",
    "results",
    "roc",
    "learning",
    "baselines",
    "published",
    "meaning",
    "calibration",
    "saliency",
    "viewer",
    "reproduce",
)
#: Left out where neither `baseline` nor `fuse` was given.
BARE = tuple(name for name in SECTIONS if name != "baselines")
ODD = "<script>alert(1)<mark>"


class Page(HTMLParser):
    """Section ids, what the page would load, tags, and its visible text."""

    def __init__(self, html):
        super().__init__()
        self.sections, self.loads, self.tags, self.text = [], [], set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        if tag == "section":
            self.sections.append(found.get("id"))
        if tag != "a":
            self.loads += [found[name] for name in ("src", "href", "data", "srcset", "poster") if name in found]

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th", "li", "p"):
            self.text += " "


def scripts(html):
    """(attributes, content) of every script of a page with a strict policy."""
    strict_page.check(html)
    return re.findall(r"<script([^>]*)>(.*?)</script>", html, re.S)


def _report(root, models=("wide", "wide-elr"), full=True, **phantom):
    made = study.make(root, n_subjects=40, odd_id=ODD)
    study.add_pictures(made)
    folders = [study.predict(made, name, noise=noise) for name, noise in zip(models, (0.5, 1.5), strict=False)]
    evaluate(
        prediction_paths=[f / "predictions.tsv" for f in folders],
        settings=config.Evaluate(draws=100),
        out_dir=root / "findings",
    )
    if full:
        small = config.AllRegions(models=("logistic",), prior_shift=True)
        volumes = baseline(
            roi_path=root / "pack" / "roi_volumes.tsv",
            scans_path=root / "scans.tsv",
            splits_path=root / "splits.tsv",
            settings=config.Baseline(all_regions=small),
            out_dir=root / "baseline",
        )
        network = folders[0] / "predictions.tsv"
        fuse(volume_path=volumes, network_paths=[network], settings=config.Fuse(), out_dir=root / "fuse")
    optional = {
        "baseline_dir": root / "baseline",
        "fuse_dir": root / "fuse",
        "exclusions_path": root / "exclusions.tsv",
        "splits_path": root / "splits.tsv",
        "notes_path": root / "notes.tsv",
        "demographics_path": root / "demographics.tsv",
        "register_dir": root / "register",
        "review_path": root / "review" / "a page.html",
        "model_dirs": folders,
        "explain_dir": root / "explain" / "wide",
    }
    page = report(
        tables_dir=root / "findings" / "tables",
        scans_path=root / "scans.tsv",
        pack_dir=root / "pack",
        settings=config.Report(reference="wide", in_house=True),
        study=study.settings(made, **phantom),
        page_path=root / "report.html",
        figures_dir=root / "figures",
        **(optional if full else {}),
    )
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of a study with everything, and its folder."""
    root = tmp_path_factory.mktemp("whole")
    return root, _report(root, effect_scale=0.7, variability_mm=1.5, wrong_label_share=0.1)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The page of a real study with one model and none of the optional inputs."""
    return _report(tmp_path_factory.mktemp("bare"), models=("wide",), full=False)


def test_every_section_is_there_in_order_with_its_figures(whole):
    root, html = whole
    assert tuple(Page(html).sections) == SECTIONS
    names = (
        "accounting",
        "results",
        "confusion",
        "roc",
        "reliability",
        "learning",
        "volumes",
        "examples",
        "registration",
        "saliency",
        "saliency_examples",
        "saliency_regions",
    )
    assert sorted(path.name for path in (root / "figures").iterdir()) == sorted(
        f"{n}.{kind}" for n in names for kind in ("png", "svg")
    )
    assert html.count('<img src="data:image/') == len(names)
    assert 'class="absent"' not in html


def test_the_baselines_say_what_they_are_and_what_validation_chose(whole, bare):
    root, html = whole
    section = re.search(r'<section id="baselines">.*?</section>', html, re.S)[0]
    facts = provenance.read_json(root / "baseline" / "volumes-all.json")
    chosen = next(trial["setting"] for trial in facts["validation"] if trial["chosen"])
    said = Page(section).text
    for name in ("volumes", "volumes-all", "fused"):
        assert f'<th scope="row">{name}</th>' in section
    assert f"({chosen})" in said and f"{facts['n_val_subjects']} subjects" in said
    shares = [f"{100 * share:.0f} %" for share in facts["external"][0]["estimated_shares"]]
    assert all(share in said for share in shares) and "NACC" in said
    assert 'id="baselines"' not in bare and 'href="#baselines"' not in bare


def test_calibration_and_comparisons_are_told_as_the_tables_have_them(whole):
    root, html = whole
    text = " ".join(Page(html).text.split())
    tables = root / "findings" / "tables"
    fitted = pd.read_csv(tables / "temperatures.tsv", sep="\t").set_index("model")["temperature"]
    assert f"{fitted['wide']:.2f}" in text and f"{fitted['wide-elr']:.2f}" in text
    scores = pd.read_csv(tables / "calibration.tsv", sep="\t").query(
        "model == 'wide' and metric == 'log_loss' and split == 'test'"
    )
    before, after = (scores.loc[scores["state"] == state, "value"].item() for state in ("before", "after"))
    assert f"{before:.3f} → {after:.3f}" in text
    subjects = pd.read_csv(tables / "subjects.tsv", sep="\t").query("split == 'test'").iloc[0]
    assert f"{subjects['n_rows']} rows of {subjects['n_subjects']} subjects" in text


def test_markup_in_ids_is_shown_and_not_obeyed(whole):
    page = Page(whole[1])
    assert "mark" not in page.tags and len(scripts(whole[1])) == 3
    assert f"sub-ADNI{ODD}0000_ses-M000" in page.text
    assert "QC <mark>poor</mark>" in page.text


def test_the_page_loads_nothing(whole):
    _, html = whole
    page = Page(html)
    assert page.loads and all(address.startswith("data:") for address in page.loads)
    assert not {"link", "iframe", "object"} & page.tags and len(scripts(html)) == 3
    policy = strict_page.check(html)
    assert policy.startswith("default-src 'none'; img-src data:; ") and "*" not in policy
    assert not re.search(r"@import|url\(", re.search(r"<style>(.*?)</style>", html, re.S).group(1))
    assert len(html) < 8e6


def test_the_review_page_is_linked_by_its_relative_address(whole, bare):
    assert 'href="review/a%20page.html"' in whole[1] and "the review page" not in bare


def test_the_phantom_study_says_so_and_another_does_not(whole, bare):
    text = " ".join(Page(whole[1]).text.split())
    assert "Synthetic data" in text and "Not clinical evidence" in text
    assert "effect_scale 0.7" in text and "1.5 mm (variability_mm)" in text and "10 % of the labels" in text
    assert "ynthetic" not in Page(bare).text


def test_published_splits_are_told_without_their_folders():
    told = config.Study(
        cohorts=(config.Cohort(name="ADNI", format="adni", path="private/folder/adni"),),
        split=config.Split(published=config.Published(train="private/folder/t.tsv")),
        measure=config.Measure(source="freesurfer", path="private/folder/fs"),
        register=config.Register(template="/private/me/tpl.nii.gz"),
        review=config.Review(decisions="/private/me/seen.tsv"),
    )
    text = shown(told)
    assert (
        '"train": "t.tsv"' in text
        and '"path": "fs"' in text
        and "private" not in text
        and '"decisions": "seen.tsv"' in text
    )
    assert config.Study.model_validate_json(text).split.published.labels == "scans"


def test_the_config_is_told_without_private_folders(whole):
    page = Page(whole[1])
    assert '"path": "adni"' in page.text and "private/folder" not in page.text
    assert re.search(r"SHA-256 of all its settings\s+[0-9a-f]{64}", page.text)


def test_scans_are_accounted_for(whole):
    text = " ".join(Page(whole[1]).text.split())
    assert "images found 83 40" in text and "excluded: repeat 2 0" in text and "excluded: localizer 1 0" in text
    assert "scans kept 80 40" in text and "failed: register 1 1" in text and "scans packed 79 40" in text
    assert "marked for review by quality control 1 1" in text


def test_notes_are_counted_and_the_first_are_shown(whole, bare):
    root, html = whole
    text = " ".join(Page(html).text.split())
    assert "9 notes of ingestion" in text and "the first 6." in text and text.count(study.NOTE) == 6
    assert len(NOTES.read(root / "findings" / "tables" / "notes.tsv")) == 9
    assert "notes of ingestion were not given" in bare


def test_the_tables_hold_no_formula(whole):
    tables = sorted((whole[0] / "findings" / "tables").glob("*.tsv"))
    assert {"accounting.tsv", "notes.tsv", "demographics.tsv", "main.tsv"} <= {path.name for path in tables}
    for path in tables:
        for line in path.read_text(encoding="utf-8").splitlines():
            for cell in line.split("\t"):
                assert not cell.lstrip().startswith(("=", "+", "-", "@")) or is_number(cell), (path.name, cell)


NASTY = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><iframe>",
    "{{ 7 * 7 }}",
    r"$\frac{1}{0}$",
    "two\nlines\tof",
    "bell\x07\r",
    "long " * 20_000,
)


def test_nothing_that_strangers_write_becomes_markup_or_a_formula(tmp_path, whole):
    made = study.make(tmp_path, n_subjects=40)
    study.add_pictures(made)
    folder = study.predict(made, "wide", noise=1.0)
    evaluate(
        prediction_paths=[folder / "predictions.tsv"],
        settings=config.Evaluate(draws=100),
        out_dir=tmp_path / "findings",
    )
    n = len(NASTY)
    states = made.scans[["scan_id"]].assign(step="register", status="pass", reason=None)
    states.loc[: n - 1, "status"], states.loc[: n - 1, "reason"] = "fail", list(NASTY)
    states.loc[: n - 1, "step"] = [text[:900] for text in NASTY]
    STATUS.write(states, tmp_path / "pack" / "status.tsv")
    strange = {"cohort": "ADNI", "subject_id": list(NASTY), "image_path": list(NASTY), "image_uid": list(NASTY)}
    EXCLUSIONS.write(pd.DataFrame(strange).assign(reason=NASTY, detail=NASTY), tmp_path / "exclusions.tsv")
    NOTES.write(
        pd.DataFrame({"cohort": "ADNI", "subject_id": list(NASTY), "months": 0, "note": NASTY}), tmp_path / "notes.tsv"
    )
    report(
        tables_dir=tmp_path / "findings" / "tables",
        scans_path=tmp_path / "scans.tsv",
        pack_dir=tmp_path / "pack",
        settings=config.Report(title=NASTY[4] + NASTY[6], reference="wide", in_house=True),
        study=study.settings(made),
        page_path=tmp_path / "report.html",
        figures_dir=tmp_path / "figures",
        exclusions_path=tmp_path / "exclusions.tsv",
        splits_path=tmp_path / "splits.tsv",
        notes_path=tmp_path / "notes.tsv",
        register_dir=tmp_path / "register",
    )
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.tags <= Page(whole[1]).tags and len(page.sections) == len(BARE)
    assert all(address.startswith("data:image/") for address in page.loads)
    assert NASTY[4] in page.text and NASTY[5] in page.text and NASTY[7] in page.text and len(html) < 3e6
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", html)
    for path in (tmp_path / "figures").glob("*.svg"):
        assert {e.tag.rsplit("}")[-1] for e in ElementTree.parse(path).iter()}.isdisjoint({"script", "img", "iframe"})
    for path in [*(tmp_path / "findings" / "tables").glob("*.tsv"), *tmp_path.glob("*.tsv"), *tmp_path.glob("pack/s*")]:
        cells = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        assert len({len(row) for row in cells}) == 1, path.name
        assert not [c for row in cells for c in row if c.lstrip()[:1] in tuple("=+-@") and not is_number(c)], path.name


def test_the_page_of_one_scan_escapes_its_name_and_reasons(tmp_path):
    context = {
        "title": NASTY[4],
        "scan": NASTY[5] + "\udcff",
        "model": NASTY[6],
        "seed": 0,
        "age_years": None,
        "trained_on": {
            "synthetic": False,
            "n_scans": 1,
            "n_subjects": 1,
            "cohorts": [NASTY[4]],
            "scans_per_class": {NASTY[4]: 1},
            "age_years": [60, 80],
        },
        "probabilities": {"CN": 1.0},
        "volumes_mm3": {NASTY[4]: 1.0},
        "volumes_source": NASTY[4],
        "percentiles": {},
        "percentiles_missing": NASTY[4],
        "status": "review",
        "reasons": [NASTY[4]],
        "picture": "data:image/png;base64,",
        "quality": {NASTY[4]: 1.0},
        "versions": {"elr_mri": NASTY[4]},
    }
    provenance.write_text(tmp_path / "page.html", page_module.render("onescan.html.j2", context))
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "iframe" not in page.tags and len(scripts((tmp_path / "page.html").read_text())) == 1
    assert page.loads == ["data:image/png;base64,"]


def is_number(cell):
    try:
        return bool(str(float(cell)))
    except ValueError:
        return False


def test_what_was_not_given_is_named_in_its_place(bare):
    assert tuple(Page(bare).sections) == BARE
    absent = re.findall(r'<p class="absent">(.*?)</p>', bare)
    for word in (
        "comparison",
        "demographic",
        "exclusions",
        "splits",
        "notes",
        "quality-control",
        "training histories",
        "saliency",
    ):
        assert any(word in sentence for sentence in absent), word


def test_a_state_table_that_lost_a_scan_is_refused(tmp_path):
    made = study.make(tmp_path, n_subjects=40)
    study.add_pictures(made)
    path = tmp_path / "pack" / "status.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    folder = study.predict(made, "wide", noise=1.0)
    evaluate(
        prediction_paths=[folder / "predictions.tsv"],
        settings=config.Evaluate(draws=100),
        out_dir=tmp_path / "findings",
    )
    with pytest.raises(BadInput, match="one state for every scan"):
        report(
            tables_dir=tmp_path / "findings" / "tables",
            scans_path=tmp_path / "scans.tsv",
            pack_dir=tmp_path / "pack",
            settings=config.Report(),
            study=study.settings(made),
            page_path=tmp_path / "report.html",
            figures_dir=tmp_path / "figures",
        )


def test_volumes_of_the_cohorts_own_tables_are_drawn_and_told_as_such(tmp_path):
    """No sides, some scans without volumes, and two cohorts that measured them differently."""
    _report(tmp_path, full=False)
    path = tmp_path / "pack" / "roi_volumes.tsv"
    table = pd.read_csv(path, sep="\t").assign(source="cohort")
    table["note"] = ["" if k else "no volumes <mark>" for k in range(len(table))]
    table[list(REGIONS)] = None
    table.loc[0, ["hippocampus", "entorhinal", "intracranial"]] = None
    table.to_csv(path, sep="\t", index=False)
    told = report(
        tables_dir=tmp_path / "findings" / "tables",
        scans_path=tmp_path / "scans.tsv",
        pack_dir=tmp_path / "pack",
        settings=config.Report(),
        study=study.settings(study.Study(tmp_path, table, None)),
        page_path=tmp_path / "cohort.html",
        figures_dir=tmp_path / "cohort_figures",
    )
    page = Page(told.read_text(encoding="utf-8"))
    assert "the cohorts’ own tables" in page.text.replace("'", "’") and "one between programs" in page.text
    assert "1 packed scan are blank" in page.text and "no volumes <mark>" in page.text and "mark" not in page.tags
    assert (tmp_path / "cohort_figures" / "volumes.png").is_file()


def test_volumes_without_an_intracranial_one_are_not_drawn(tmp_path):
    made = study.make(tmp_path, n_subjects=8)
    path = tmp_path / "pack" / "roi_volumes.tsv"
    pd.read_csv(path, sep="\t").assign(intracranial=None).to_csv(path, sep="\t", index=False)
    pictures = Pictures(tmp_path / "figures", {})
    assert len(draw_volumes(pictures, tmp_path / "pack", made.scans)) == len(made.scans) and not pictures.stems


@pytest.fixture(scope="module")
def ablated(tmp_path_factory):
    """The page of a study whose ablations were made, and its folder."""
    root = tmp_path_factory.mktemp("ablated")
    made = study.make(root, n_subjects=40)
    study.add_pictures(made)
    told = {
        "wide": config.Model(network="wide", width=1),
        "alexnet": config.Model(network="alexnet", width=1),
    }
    varied = {"width-2": config.Variant(width=2), "no-elr": config.Variant(elr=None, first_pool=False)}
    settings = study.settings(made)
    settings = settings.model_copy(
        update={"train": config.Train(models=told), "ablations": config.Ablations(base="wide", variants=varied)}
    )
    folders = {
        name: study.predict(made, name, noise=noise)
        for name, noise in (("wide", 0.1), ("alexnet", 1.0), ("width-2", 50.0), ("no-elr", 0.5))
    }
    for place, (name, folder) in enumerate(folders.items()):
        (folder / "model.json").write_text(f'{{"slug": "{name}", "n_parameters": {1_234_567 + 10**6 * place}}}')
    compared = [folders[name] for name in ("wide", "width-2", "no-elr")]
    for out, some in (("findings", [folders["wide"], folders["alexnet"]]), ("findings/ablations", compared)):
        paths = [folder / "predictions.tsv" for folder in some]
        evaluate(prediction_paths=paths, settings=config.Evaluate(draws=100), out_dir=root / out)

    def page(**given):
        written = report(
            tables_dir=root / "findings" / "tables",
            scans_path=root / "scans.tsv",
            pack_dir=root / "pack",
            settings=config.Report(reference="wide"),
            study=settings,
            page_path=root / "report.html",
            figures_dir=root / "figures",
            **given,
        )
        return written.read_text(encoding="utf-8")

    return root, page, compared


def test_ablations_stand_in_the_page_with_paired_differences_from_their_base(ablated):
    root, page, compared = ablated
    tables = root / "findings" / "ablations" / "tables"
    html = page(ablation_tables_dir=tables, ablated_dirs=compared)
    assert "ablations" in Page(html).sections and 'href="#ablations"' in html
    text = " ".join(Page(html).text.split())
    assert "width 2 3.23" in text and "elr null, first_pool false 4.23" in text and "wide – 1.23" in text
    table = pd.read_csv(root / "findings" / "tables" / "ablations.tsv", sep="\t")
    assert list(dict.fromkeys(table["model"])) == ["wide", "width-2", "no-elr"]
    assert table.loc[table["model"] == "wide", "difference"].isna().all()
    pairs = pd.read_csv(tables / "differences.tsv", sep="\t").query("reference == 'wide'")
    both = table.merge(pairs, on=["model", "cohort", "split", "metric"], suffixes=("", "_of_pair"))
    assert len(both) == len(pairs) > 0
    for ours, theirs in (("difference", "difference_of_pair"), ("difference_low", "low_of_pair")):
        pd.testing.assert_series_equal(both[ours], both[theirs], check_names=False)
    poor = table.query("model == 'width-2' and split == 'test' and metric == 'macro_auc'").iloc[0]
    assert poor["difference_high"] < 0 and poor["difference_low"] < poor["difference"] < poor["difference_high"]


def test_a_study_without_ablations_has_no_such_section_and_an_empty_table(ablated):
    root, page, _ = ablated
    html = page()
    assert "ablations" not in Page(html).sections and "#ablations" not in html
    assert len(pd.read_csv(root / "findings" / "tables" / "ablations.tsv", sep="\t")) == 0


def test_ablations_of_another_config_or_without_their_models_are_refused(ablated):
    root, page, compared = ablated
    with pytest.raises(BadInput, match="got no-elr.*snakemake ablations"):
        page(ablation_tables_dir=root / "findings" / "ablations" / "tables", ablated_dirs=compared[:2])


def test_the_page_says_whether_labels_mislead(ablated, tmp_path):
    """In the numbers that the experiment found, with the verdict that its intervals allow; not at all where there was none."""
    _, page, _ = ablated
    assert "labels" not in Page(page()).sections
    base = {"reference": "ce", "level": 0.95, "covers": "subjects and seeds", "n_seeds": 3}
    gained = [
        {"cohort": "ADNI", "split": "test", "model": "elr", "difference": 0.12, "low": 0.03, "high": 0.2, **base},
        {"cohort": "NACC", "split": "external", "model": "elr", "difference": 0.02, "low": -0.1, "high": 0.1, **base},
    ]
    how = {"class_weights": "none", "n_training_scans": 99, "n_seeds": 3}
    plus = {"weight": 3, "beta": 0.7, "targets": "both", "ema": 0.997, "ema_ramp_steps": 0, "mixup": 1.0}
    facts = {
        "share": 0.4, "realised": 0.38, "noise": {"kind": "adjacent", "per": "scan", "splits": ["train"]}, "judged_by": "true", "n_training_scans": 99,
        "seeds": [0, 1, 2], "shown_seed": 0, "methods": ["ce", "elr", "elr-plus"],
        "trained": {
            "ce": {"loss": {"patience": 5}, "voice": "network", "epochs": [9, 14], **how},
            "elr": {"loss": {"elr": {"weight": 3, "beta": 0.7, "targets": "outputs"}}, "voice": "network", "epochs": [16, 16], **how},
            "elr-plus": {"loss": {"elr": plus}, "voice": "average", "epochs": [16, 16], **how},
        },
        "without_gradients": ["elr-plus"],
        "last_epoch_of_wrong_labels": {
            "ce": {"given": 0.97, "true": 0.02, "n_seeds": 3}, "elr": {"given": 0.1, "true": 0.85, "n_seeds": 3}, "elr-plus": {"given": 0.2, "true": 0.7, "n_seeds": 3},
        },
        "balanced_accuracy_gained": gained,
    }  # fmt: skip
    for name in ("memorization", "gradients", "scores"):
        with style.drawing():
            style.save(style.figure(1, 1), tmp_path / "figures" / name)
    (tmp_path / "findings.json").write_text(json.dumps(facts))
    told = {"model": "wide-elr", "n_scans": 99, "n_disagreeing": 17, "volumes": {"noise": 0.1}, "found": {"n": 99, "wrong": 11, "precision_at_10_percent": 0.8, "average_precision": 0.7}}  # fmt: skip
    (tmp_path / "audit.json").write_text(json.dumps(told))
    linear = {"start": {}, "peak": {"iteration": 15, "wrong_predicted_true": 0.85}, "end": {"iteration": 1500, "wrong_predicted_true": 0.01, "new_accuracy": 0.6}}  # fmt: skip
    (tmp_path / "linear").mkdir()
    (tmp_path / "linear" / "findings.json").write_text(json.dumps({"examples": 400, "wrong": 160, "methods": {"ce": linear}}))  # fmt: skip
    alone = Page(page(experiment_dirs=[tmp_path / "linear"]))
    assert "labels" in alone.sections and "A linear model" in alone.text and "1.0 % at the end (1,500)" in alone.text
    html = page(lab_dir=tmp_path, audit_dir=tmp_path)
    text = " ".join(Page(html).text.split())
    assert "A linear model" not in text
    assert "labels" in Page(html).sections and 'href="#labels"' in html
    assert (
        "With cross-entropy, the model at the end gives 97.0 % of the wrongly labelled training scans their wrong label back"
        in text
    )
    assert "With ELR+, the average of its networks’ weights at the end gives 20.0 %" in text and "may have memorized more" in text  # fmt: skip
    assert (
        "ELR against cross-entropy in balanced accuracy +12.0 points (+3.0 to +20.0, 95 % interval over subjects and seeds), mean of 3 trainings: more."
        in text
    )
    assert "40 % of the training labels were drawn to be made wrong (38 % of the 99 training labels really are; those of validation stayed right)" in text  # fmt: skip
    assert "the same network" not in text and "9 to 14" in text and "λ 3, β 0.7, targets from its own outputs" in text
    assert "seed 0 alone" in text and "Not drawn for ELR+" in text and "single seeds" in text
    assert "NACC (external)" in text and "a difference that cannot be told from none" in text
    assert "17 would be given another one" in text and "of the first tenth of the list 80 % are" in text


def test_a_command_is_told_without_the_folders_it_ran_in(tmp_path):
    made = tmp_path / "out.tsv"
    made.write_text("x")
    command = (
        'elr-mri split --scans /data/me/study/scans.tsv --output results/split --cohorts \'[{"path": "/data/adni"}]\''
    )
    provenance.write_json(provenance.sidecar(made), {"step": "split", "command": command})
    told = commands(
        [made, tmp_path / "absent.tsv"],
        config.Study(cohorts=(config.Cohort(name="A", format="adni", path="/data/adni"),)),
    )
    assert told == [
        ("split", 'elr-mri split --scans …/scans.tsv --output results/split --cohorts \'[{"path": "adni"}]\'')
    ]
