"""Whoever misspells a key is told which one was meant."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from elr_mri.config import Ingest, Register, Split, Study, Train, check_study, parse, section
from elr_mri.errors import BadInput
from elr_mri.sections import RECIPES

COHORT = {"name": "ADNI", "format": "adni", "path": "data"}
MODEL = {"network": "wide"}


@pytest.mark.parametrize(
    ("content", "key", "meant"),
    [
        ({"cohorts": [COHORT], "ingst": {}}, "ingst", "ingest"),
        ({"cohorts": [COHORT], "ingest": {"max_day": 3}}, "ingest.max_day", "max_days"),
        ({"cohorts": [COHORT | {"rol": "external"}]}, "cohorts.0.rol", "role"),
        ({"cohorts": [{"nam": "ADNI", "format": "adni", "path": "data"}]}, "cohorts.0.nam", "name"),
        (
            {"cohorts": [COHORT], "train": {"models": {"mine": MODEL | {"widht": 1}}}},
            "train.models.mine.widht",
            "width",
        ),
        (
            {"cohorts": [COHORT], "train": {"models": {"mine": MODEL | {"elr": {"bta": 1}}}}},
            "train.models.mine.elr.bta",
            "beta",
        ),
        ({"cohorts": [COHORT], "train": {"models": {"elr": MODEL | {"widht": 1}}}}, "train.models.elr.widht", "width"),
        ({"cohorts": [COHORT], "phantom": {"n_subject": 9}}, "phantom.n_subject", "n_subjects"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(content, key, meant):
    with pytest.raises(BadInput, match=f"'{key}'.*Did you mean '{meant}'") as caught:
        parse(Study, content, where="study.yaml")
    assert "\n" not in str(caught.value) and "study.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "cohorts"),
        ({"cohorts": []}, "cohorts"),
        ({"cohorts": [COHORT | {"format": "xnat"}]}, "cohorts.0.format"),
        ({"cohorts": [COHORT | {"name": "../up"}]}, "cohorts.0.name"),
        ({"cohorts": [COHORT], "split": {"val_share": 1.2}}, "split.val_share"),
        ({"cohorts": [COHORT], "split": {"val_share": 0.6, "test_share": 0.6}}, "split"),
        ({"cohorts": [COHORT], "register": {"spacing_mm": float("inf")}}, "register.spacing_mm"),
        ({"cohorts": [COHORT], "ingest": {"max_days": "many"}}, "ingest.max_days"),
    ],
)
def test_a_bad_value_names_its_key_in_one_line(content, told):
    with pytest.raises(BadInput, match=rf"key {told}\b") as caught:
        parse(Study, content, where="study.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@given(st.sampled_from(sorted(Ingest.model_fields)), st.integers(0, 20))
def test_any_slip_of_one_letter_is_recognised(name, place):
    slip = name[: place % len(name)] + name[place % len(name) + 1 :]
    if slip not in Ingest.model_fields:
        with pytest.raises(BadInput, match=f"Did you mean '{name}'"):
            parse(Ingest, {slip: 1}, where="x")


def test_a_section_comes_inline_or_from_a_file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"cohorts": [COHORT], "split": {"seed": 5}}))
    assert section(Split, "split", str(path)).seed == section(Split, "split", '{"seed": 5}').seed == 5
    assert section(Ingest, "ingest", str(path)) == Ingest()
    with pytest.raises(BadInput, match="a section 'phantom'"):
        section(Study.model_fields["phantom"].annotation, "phantom", str(path))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"cohorts: [", "valid YAML"),
        (b"- a\n- b\n", "a mapping"),
        (b"", "a mapping"),
        (b"\xff\xfe\xfa", "valid YAML in UTF-8"),
    ],
)
def test_files_that_are_no_config(tmp_path, raw, message):
    path = tmp_path / "study.yaml"
    with pytest.raises(BadInput, match="readable config file"):
        section(Split, "split", str(path))
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=message) as caught:
        section(Split, "split", str(path))
    assert "\n" not in str(caught.value)


def test_inline_json_that_is_cut_off():
    with pytest.raises(BadInput, match="valid JSON"):
        section(Split, "split", '{"seed": 5')


def test_sections_are_frozen_and_survive_json():
    with pytest.raises(ValidationError):
        Split().seed = 3
    for model in (Register(), Train(models={"wide": MODEL}), Split(seed=4)):
        assert parse(type(model), json.loads(model.model_dump_json()), where="") == model


def test_a_recipe_sets_what_is_not_given_beside_it():
    plain, fast = Register(), Register(recipe="fast", detail_iterations=7)
    assert plain == Register(recipe="standard") and plain.warp == "demons"
    assert fast.n4_spacing_mm == RECIPES["fast"]["n4_spacing_mm"] != plain.n4_spacing_mm and fast.detail_iterations == 7
    assert Register(recipe="affine").warp == "none" and Register(recipe="affine", warp="syn").warp == "syn"
    assert all(set(keys) <= set(Register.model_fields) - {"template", "spacing_mm"} for keys in RECIPES.values())
    with pytest.raises(BadInput, match="'affine', 'fast', 'standard' or 'accurate'"):
        parse(Register, {"recipe": "quick"}, where="config")


def test_fusion_needs_atlases():
    with pytest.raises(ValidationError, match=r"needs atlases\.path"):
        Study.model_validate({"cohorts": [COHORT], "measure": {"source": "fusion"}})


def test_a_warped_cache_needs_warped_scans():
    with pytest.raises(ValidationError, match=r"needs register\.write_warped: true"):
        Study.model_validate({"cohorts": [COHORT], "pack": {"space": "warped-jacobian"}})


def test_a_study_that_explains_names_whom_and_another_need_not():
    study = {"cohorts": [{"name": "A", "format": "tsv", "path": "x"}], "train": {"models": {"wide": {"network": "wide"}}}}  # fmt: skip
    study |= {"report": {"reference": "wide"}}
    assert check_study(study) is None
    assert check_study({**study, "explain": {"model": "wide"}}) is None
    for part, got in (({"model": "wide-age-elr"}, "'wide-age-elr'"), ({"split": "val"}, "None")):
        assert f"explain.model must be one of wide, got {got}" in check_study({**study, "explain": part})


def test_networks_need_a_cohort_to_learn_from():
    """Deleting ADNI's line of config/adni_nacc.yaml leaves NACC, which is external there."""
    study = {"cohorts": [{"name": "NACC", "format": "nacc", "path": "x", "role": "external"}], "explain": {"model": "wide"}}  # fmt: skip
    study |= {"report": {"reference": "wide"}, "train": {"models": {"wide": {"network": "wide"}}}}
    assert "a cohort that train.models learn from, got only NACC with role external" in check_study(study)
    study["cohorts"].append({"name": "A", "format": "tsv", "path": "y"})
    assert check_study(study) is None


def test_an_ensemble_can_be_the_reference_where_there_are_several_seeds():
    study = {"cohorts": [{"name": "A", "format": "tsv", "path": "x"}], "explain": {"model": "wide"}}
    study |= {"train": {"models": {"wide": {"network": "wide"}}}, "report": {"reference": "wide-ensemble"}}
    told = parse(Study, study | {"seeds": [0, 1]}, where="test")
    assert told.report.reference == "wide-ensemble"
    for changed in (study, study | {"report": {}, "subgroups": {"models": ["wide-ensemble"]}}):
        with pytest.raises(BadInput, match="wide-ensemble"):
            parse(Study, changed | {"seeds": [0]}, where="test")
