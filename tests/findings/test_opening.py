"""The opening says who is best only as far as the intervals allow; the methods tell what was run and nothing else."""

import json
import re

import pandas as pd
import pytest
from tiny_study import AFFINE

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import for_whom, methods, methods_after, opening, trust
from elr_mri.findings.references import REFERENCES, numbered
from elr_mri.findings.tables import DIFFERENCES, RESULTS

COUNTS = {"level": 0.95, "n_scans": 61, "n_subjects": 41, "n_seeds": 1}


def _tables(values, pairs):
    """Tables of one test group: model to (value, low, high), and (model, reference) to the same of their difference."""
    place = {"cohort": "ADNI", "split": "test", "metric": "balanced_accuracy", **COUNTS}
    results = [{"model": m, "value": v, "low": lo, "high": hi, **place} for m, (v, lo, hi) in values.items()]
    rows = [{"model": m, "reference": r, "difference": d, "low": lo, "high": hi, **place} for (m, r), (d, lo, hi) in pairs.items()]  # fmt: skip
    return (
        RESULTS.validate(pd.DataFrame(results), where="test"),
        DIFFERENCES.validate(pd.DataFrame(rows, columns=[c.name for c in DIFFERENCES.columns]), where="test"),
    )


VALUES = {"volumes": (0.60, 0.5, 0.7), "wide": (0.62, 0.52, 0.72), "other": (0.4, 0.3, 0.5)}


def test_a_lead_whose_paired_interval_spans_zero_is_called_open():
    pairs = {("volumes", "wide"): (-0.02, -0.1, 0.06), ("wide", "other"): (0.22, 0.1, 0.3), ("volumes", "other"): (0.2, 0.1, 0.3)}  # fmt: skip
    said = dict(opening.in_short(*_tables(VALUES, pairs), "volumes"))
    assert "the best of 3 methods, wide," in said["ADNI test"].lower()
    assert "62.0 %, and with 41 subjects the truth may lie anywhere from 52.0 to 72.0 %" in said["ADNI test"]
    assert "+2.0 points (−6.0 to +10.0), not told apart" in said["ADNI test"]
    assert "better than every other" not in said["ADNI test"]
    assert "the order of the methods is not a finding" in said["How sure"] and "3 pairs" in said["How sure"]
    assert "ADNI test, 61 scans of 41 subjects" in said["What was done"]


def test_a_lead_that_every_paired_interval_clears_is_told_as_such():
    pairs = {("wide", "volumes"): (0.2, 0.1, 0.3), ("wide", "other"): (0.22, 0.1, 0.3), ("volumes", "other"): (0.2, 0.1, 0.3)}  # fmt: skip
    said = dict(opening.in_short(*_tables(VALUES, pairs), "volumes"))
    assert "+20.0 points (+10.0 to +30.0), better" in said["ADNI test"]
    assert "better than every other method by the whole interval" in said["ADNI test"]
    assert "not a finding" not in said["How sure"]


def test_an_ensemble_is_no_training_of_its_own():
    said = dict(opening.in_short(*_tables({"wide": (0.6, 0.5, 0.7), "wide-ensemble": (0.62, 0.5, 0.7)}, {}), "wide"))
    assert said["What was done"].startswith("One method was trained")


def test_scans_without_an_error_are_no_certainty():
    said = dict(opening.in_short(*_tables({"wide": (1.0, 1.0, 1.0)}, {}), "wide"))
    assert "100.0 %, the same whichever of these 41 subjects are drawn, which cannot tell how sure that is" in said["ADNI test"]  # fmt: skip
    assert "100.0 to 100.0" not in said["ADNI test"]


def test_others_that_cannot_be_told_apart_are_named_and_guessing_is_said():
    pairs = {("wide", "volumes"): (0.2, 0.1, 0.3), ("wide", "other"): (0.02, -0.1, 0.3)}
    values = {**VALUES, "wide": (0.35, 0.3, 0.7), "volumes": (0.2, 0.1, 0.3), "other": (0.3, 0.2, 0.4)}
    said = dict(opening.in_short(*_tables(values, pairs), "volumes"))
    assert "cannot be told from guessing" in said["ADNI test"]
    assert "One other method cannot be told from it (other)" in said["ADNI test"]


def test_without_unseen_scans_nothing_is_claimed():
    results, differences = _tables({"wide": (0.6, 0.5, 0.7)}, {})
    said = opening.in_short(results.assign(split="val"), differences, "volumes")
    assert len(said) == 1 and "says nothing yet" in said[0][1]


MODEL = {
    "slug": "wide-elr",
    "seed": 0,
    "n_parameters": 9_878_571,
    "network": {"name": "wide", "width": 1, "norm": "instance", "age": "none"},
    "model": {"elr": {"weight": 1.0, "beta": 0.7, "targets": "outputs", "mixup": 0.0}},
    "settings": config.Train(optimizer="adamw", epochs=8, select="last").model_dump(mode="json"),
    "versions": {"torch": "2.13.0", "monai": "1.6.1"},
}


def _written(tmp_path, models=(), *, cohort="adni", scored=("wide-elr",), **given):
    for facts in models:
        folder = tmp_path / facts["slug"] / f"seed-{facts['seed']}"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps(facts))
    results = pd.DataFrame({"model": scored, "level": 0.95})
    told = methods.written(
        study=config.Study(cohorts=(config.Cohort(name="ADNI", format=cohort, path="x"),), **given.pop("study", {})),
        counts={"n_scans": 1234, "n_subjects": 400},
        sources=["freesurfer"],
        packed={"space": "affine", "spacing_mm": 1.5, "affine": AFFINE.tolist()},
        results=results,
        evaluated={"settings": {"draws": 2000}},
        model_dirs=[tmp_path / f["slug"] / f"seed-{f['seed']}" for f in models] or [tmp_path / "nothing"],
        **{"ablated": [], **given},
    )
    return " ".join(told["paragraphs"]), told["references"]


def _after(**given):
    """Paragraphs on what came after the predictions; nothing, but for what is given."""
    nothing = trust.Tables(pd.DataFrame({"temperature": [], "n_scans": []}), pd.DataFrame(), pd.DataFrame())
    whole = {
        "study": config.Study(cohorts=(config.Cohort(name="ADNI", format="adni", path="x"),)),
        "baselines": None,
        "calibration": nothing,
        "family": pd.DataFrame(),
        "reference": "volumes",
        "whom": for_whom.Tables(None, None, None, None, None),
        "explain_dir": None,
    }
    return methods_after.written(**(whole | given))


def test_methods_after_the_predictions_tell_what_has_a_table():
    assert _after() == []
    fitted = pd.DataFrame({"temperature": [1.2, None], "n_scans": [46, 0]})
    said = _after(
        baselines={"rows": [{"name": "fused", "sees": "what volumes and wide say", "chosen": "stacked"}]},
        calibration=trust.Tables(fitted, pd.DataFrame(), pd.DataFrame()),
        family=pd.DataFrame({"p": [0.1, 0.2]}),
        whom=for_whom.Tables(None, pd.DataFrame({"quantity": ["age"]}), None, None, None),
    )
    text = " ".join(numbered(said)[0])
    assert len(said) == 4 and "46 validation scans" in text and "(2 comparisons)" in text and "stacked" in text
    assert "standardised mean differences" in text
    for absent in ("volumes-all", "field strength", "Cox", "Saliency", "[@"):
        assert absent not in text, absent


def test_methods_tell_what_was_run_with_its_works_and_nothing_else(tmp_path):
    text, works = _written(tmp_path, [MODEL, {**MODEL, "seed": 1}], more=_after(explain_dir=tmp_path / "wide-elr"))
    assert "1,234 scans of 400 subjects" in text and "at 1.5 mm" in text and "2,000 draws" in text
    assert "wide-elr (early-learning regularization (λ = 1, β = 0.7)" in text and "trained 2 times" in text
    assert "8 epochs" in text and "weights of the last epoch" in text and "PyTorch 2.13.0" in text
    assert "FreeSurfer" in text and "demons" in text and "Saliency" in text
    for absent in (
        "SyN",
        "SOP",
        "AlexNet",
        "ResNet",
        "logistic",
        "Ablations",
        "synthetic",
        "age at the scan",
        "external",
    ):
        assert absent not in text.replace("No test or external scan", ""), absent
    cited = sorted({int(n) for mark in re.findall(r"\[([\d,]+)\]", text) for n in mark.split(",")})
    assert cited == list(range(1, len(works) + 1)) and "[@" not in text
    assert any("Early-learning regularization prevents" in work for work in works)
    assert not any("SyN" in work or "AlexNet" in work or "over-parameterization" in work for work in works)


def test_methods_without_networks_or_maps_claim_none(tmp_path):
    text, works = _written(tmp_path, scored=("volumes",), cohort="tsv", study={"register": config.Register(warp="syn")})
    assert "logistic regression" in text and "symmetric normalization" in text
    for absent in ("Networks", "Training", "Saliency", "gradient", "PyTorch", "demons"):
        assert absent not in text, absent
    assert not any("Early-learning" in work or "ADNI" in work for work in works)


def test_methods_follow_the_cache_where_the_config_says_otherwise(tmp_path):
    """The config may have been edited since; meta.json tells how the packed scans were made."""
    packed = {"settings": {"register": config.Register(warp="syn").model_dump(mode="json")}, "space": "affine"}
    told = methods._images(config.Study(cohorts=(config.Cohort(name="A", format="tsv", path="x"),)), packed, [])
    assert "SyN" in told and "demons" not in told


def test_a_mark_of_an_unknown_work_is_refused_and_known_ones_count_by_first_mention():
    texts, works = numbered(["b [@elr], a [@wide,elr]", "again [@wide]"])
    assert texts == ["b [1], a [2,1]", "again [2]"] and works == [REFERENCES["elr"], REFERENCES["wide"]]
    with pytest.raises(BadInput, match="nonsense"):
        numbered(["x [@nonsense]"])
