"""What is tried of a method on ROI tables: no grid is ignored, and what the config sets itself is not tried otherwise."""

from __future__ import annotations

import pytest

from elr_mri.config import GRIDS, METHODS, Candidate, Lab, TableFit, parse
from elr_mri.errors import BadInput
from elr_mri.lab.table_choice import check_budgets, fixed_keys, grid_of
from elr_mri.lab.table_runs import candidate


def trials(lab: Lab, method: str) -> tuple[Candidate, ...]:
    fixed = fixed_keys(method, lab.methods)
    return grid_of(method, lab.method(method), lab.tables.grids, fixed=fixed)


def test_a_grid_of_no_known_method_is_refused() -> None:
    with pytest.raises(BadInput, match="'erl'"):
        parse(Lab, {"tables": {"grids": {"erl": [{"weight": 1.0}]}}}, where="study.yaml")
    own = {"methods": {"mine": {"elr": {"weight": 2.0}}}, "tables": {"grids": {"mine": [{"beta": 0.5}]}}}
    assert trials(parse(Lab, own, where="study.yaml"), "mine") == (Candidate(beta=0.5),)


def test_what_the_config_sets_of_a_method_is_not_tried_otherwise() -> None:
    lab = parse(Lab, {"methods": {"elr": {"elr": {"weight": 2.5, "beta": 0.6}}}}, where="study.yaml")
    made = [candidate(lab.method("elr"), TableFit(), trial) for trial in trials(lab, "elr")]
    assert {(loss.elr.weight, loss.elr.beta, loss.elr.align) for loss, _ in made} == {(2.5, 0.6, True)}
    assert {fit.epochs for _, fit in made} == {trial.epochs for trial in GRIDS["ce"]}
    check_budgets({"ce": trials(lab, "ce"), "elr": trials(lab, "elr")})


def test_every_kind_of_loss_is_tried_for_as_many_epochs_and_as_often() -> None:
    assert all({trial.epochs for trial in grid} == {15, 30, 60} for grid in GRIDS.values())
    check_budgets(GRIDS)


def test_named_methods_and_named_grids_are_tried_as_they_stand() -> None:
    lab = Lab()
    assert trials(lab, "elr") == GRIDS["elr"] and trials(lab, "elr-weights") == GRIDS["elr"]
    assert {trial.weight for trial in trials(lab, "elr")} != {METHODS["elr"].elr.weight}
    own = {"methods": {"elr": {"elr": {"weight": 2.5}}}, "tables": {"grids": {"elr": [{"weight": 9.0}]}}}
    assert trials(parse(Lab, own, where="study.yaml"), "elr") == (Candidate(weight=9.0),)


def test_a_method_of_another_kind_under_a_known_name_has_the_trials_of_its_kind() -> None:
    lab = parse(Lab, {"methods": {"elr": {"sop": {}}}}, where="study.yaml")
    assert trials(lab, "elr") == GRIDS["sop"]
