"""What the report says of groups, shift and progression: what the tables say, in words that do not claim more."""

import re

import numpy as np
import pandas as pd
import pytest
import tiny_study as study

from elr_mri import config
from elr_mri.findings import for_whom
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.progression import progression
from elr_mri.findings.report import report
from elr_mri.findings.shift import shift
from elr_mri.findings.subgroups import SUBGROUPS, subgroups
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import SCANS, SPLIT, VISITS

ODD = "<mark>$x$</mark>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose second model is blind in men, with a site of an odd name, its tables, and a function that renders the report."""
    root = tmp_path_factory.mktemp("whom")
    tiny = study.make(root, n_subjects=240)
    study.add_pictures(tiny)
    rng = np.random.default_rng(0)
    subject = tiny.scans["subject_id"].str[-4:].astype(int)
    scans = tiny.scans.assign(
        sex=np.where(np.random.default_rng(2).random(2000)[subject] < 0.5, "M", "F"),
        site=np.where(subject % 2 == 0, ODD, "B"),
    )
    SCANS.write(scans, root / "scans.tsv")
    told = scans.merge(SPLIT.read(root / "splits.tsv").drop(columns="fold"), on=["cohort", "subject_id"])
    good = -4 * (tiny.severity[:, None] + 0.3 * rng.normal(size=(len(scans), 1)) - np.array([-1, 0, 1])) ** 2
    blind = np.where((scans["sex"] == "M").to_numpy()[:, None], rng.normal(size=good.shape), good)
    paths = [root / f"{name}.tsv" for name in ("fair", "blind")]
    for path, logits in zip(paths, (good, blind), strict=True):
        PREDICTIONS.write(prediction_table(told, logits, model=path.stem, seed=0), path)
    visits = [
        {"cohort": row.cohort, "subject_id": row.subject_id, "months": months, "age_years": np.nan}
        | {"diagnosis": "AD" if row.diagnosis == "MCI" and months > 20 and number % 2 else row.diagnosis}
        for number, row in enumerate(scans.drop_duplicates("subject_id").itertuples())
        for months in (0, 12, 24, 36)
    ]
    VISITS.write(pd.DataFrame(visits), root / "visits.tsv")
    evaluate(prediction_paths=paths, settings=config.Evaluate(draws=100), out_dir=root / "findings")
    tables = root / "findings" / "tables"
    common = {"prediction_paths": paths, "scans_path": root / "scans.tsv"}
    subgroups(**common, settings=config.Subgroups(draws=100), out_path=tables / "subgroups.tsv")
    progression(**common, visits_path=root / "visits.tsv", settings=config.Progression(draws=100), out_dir=tables)
    shift(scans_path=root / "scans.tsv", splits_path=root / "splits.tsv", pack_dir=root / "pack", settings=config.Shift(draws=100), out_path=tables / "shift.tsv")  # fmt: skip

    def page(*, in_house=False, **given):
        return report(
            tables_dir=tables,
            scans_path=root / "scans.tsv",
            pack_dir=root / "pack",
            settings=config.Report(reference="fair", in_house=in_house),
            study=study.settings(tiny),
            page_path=root / "report.html",
            figures_dir=root / "figures",
            **given,
        ).read_text(encoding="utf-8")

    return root, tables, page


def test_the_three_sections_answer_for_whom_not(made):
    root, tables, page = made
    html = page(subgroups_path=tables / "subgroups.tsv", shift_path=tables / "shift.tsv", progression_dir=tables)
    sections = re.findall(r'<section id="([a-z]+)"', html)
    assert sections[-4:] == ["subgroups", "shift", "progression", "reproduce"] and "For whom not?" in html
    for name in ("subgroups", "shift", "progression"):
        assert (root / "figures" / f"{name}.svg").is_file() and f'href="#{name}"' in html
    assert "<mark>" not in html and "&lt;mark&gt;$x$" not in html and "no. 1" in html and "no. 2" in html
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert re.search(r"blind, ADNI test: sex, men: [\d.]+ points less in balanced accuracy than the others", text)
    assert "fair, ADNI test" not in text and "gap that holds" in text
    assert "APOE ε4 (unknown)" in text and "hazard ratio per sd of risk" in text


def test_without_their_tables_there_is_no_such_question(made):
    html = made[2]()
    assert "For whom not?" not in html and 'id="subgroups"' not in html and "#shift" not in html


def test_one_section_alone_stands_under_the_question(made):
    html = made[2](subgroups_path=made[1] / "subgroups.tsv", in_house=True)
    assert 'id="subgroups"' in html and "<mark>" not in html and "&lt;mark&gt;$x$" in html  # in-house sites have names
    html = made[2](shift_path=made[1] / "shift.tsv")
    assert "For whom not?" in html and 'id="shift"' in html and 'id="progression"' not in html


def test_no_gap_is_not_called_equality(made):
    table = SUBGROUPS.read(made[1] / "subgroups.tsv")
    fair = for_whom._subgroups(table[table["model"] == "fair"])
    assert fair["verdict"].startswith("None of") and "no proof that there are no gaps" in fair["verdict"]
    assert re.search(r"must exceed about \d+ points", fair["verdict"]) and not fair["flags"]
    nothing = for_whom._subgroups(table[table["factor"] == "all"])
    assert "nothing can be said" in nothing["verdict"]


def test_counts_that_are_not_told_are_not_called_small():
    counts = pd.Series({"no MCI scan": np.nan, "AD before": np.nan, "no later diagnosis": 0, "came to AD": 7, "censored": 9, "returned to CN": np.nan, "AD taken back": 0})  # fmt: skip
    said = for_whom._followed(counts)
    assert said.startswith("Some had no scan with MCI, some had AD before") and "7 came to AD" in said


def test_tables_without_unseen_scans_say_so(made, tmp_path):
    """Training scans alone: three empty tables and three plain sentences."""
    root, _, page = made
    rows = PREDICTIONS.read(root / "fair.tsv").query("split == 'train'")
    PREDICTIONS.write(rows, tmp_path / "fair.tsv")
    common = {"prediction_paths": [tmp_path / "fair.tsv"], "scans_path": root / "scans.tsv"}
    subgroups(**common, settings=config.Subgroups(draws=100), out_path=tmp_path / "subgroups.tsv")
    progression(**common, visits_path=root / "visits.tsv", settings=config.Progression(draws=100), out_dir=tmp_path)
    html = page(subgroups_path=tmp_path / "subgroups.tsv", progression_dir=tmp_path)
    assert "there are no groups of unseen people" in html and "nobody unseen was followed" in html
