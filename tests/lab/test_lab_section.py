"""What of the lab's config is refused, before anything runs."""

import re

import pytest

from elr_mri.config import check_study

STUDY = {
    "cohorts": [{"name": "A", "format": "adni", "path": "a"}],
    "train": {"label_smoothing": 0.1, "models": {"wide": {"network": "wide"}}},
    "explain": {"model": "wide"},
    "report": {"reference": "wide"},
}


@pytest.mark.parametrize(
    ("lab", "told"),
    [
        ({"mri": {"base": "wdie"}}, "lab.mri.base must be one of wide, got 'wdie'"),
        ({"audit": {"model": "wdie"}}, "lab.audit.model must be one of wide, got 'wdie'"),
        ({"mri": {"methods": ["elr-pls"]}}, "mri.methods must be among ce, elr, .*, got 'elr-pls'"),
        ({"tables": {"methods": ["elr-pls"]}}, "tables.methods must be among"),
        ({"methods": {"a_b": {}}}, "methods must be named in a-z, 0-9 and -, got 'a_b'"),
        ({"methods": {"own": {"elr": {"weihgt": 1}}}}, "Did you mean 'weight'"),
        ({"methods": {"own": {"elr": {"ema": 0.9}}}}, "ema is of averaged weights"),
        ({"methods": {"own": {"sop": {}}}, "mri": {"methods": ["own"]}}, "give models.own its own label_smoothing"),
        ({"mri": {"seeds": [0, 0]}}, "each value once, got 0, 0"),
        ({"mri": {"shares": []}}, "lab.mri.shares"),
        ({"linear": {"methods": []}}, "lab.linear.methods"),
        ({"images": {"seeds": [0, 0]}}, "each value once, got 0, 0"),
        ({"images": {"seeds": [-1]}}, "lab.images.seeds"),
        ({"images": {"methods": ["ce", "ce"]}}, "each value once, got ce, ce"),
        ({"images": {"split_seed": -1}}, "lab.images.split_seed"),
        ({"images": {"noise": {"per": "subject"}}}, "lab.images.noise.per"),
        ({"noise": {"map": {0: 1}}}, "map goes with `kind: asymmetric`, got adjacent"),
        ({"noise": {"seed": -1}}, "lab.noise.seed"),
        ({"noise": {"kind": "instance"}, "mri": {"reported": 0.4}}, "needs predictions of a reference model"),
    ],
)
def test_a_name_that_nothing_has_is_told_in_one_line(lab, told):
    problem = check_study({**STUDY, "lab": lab})
    assert problem is not None and "\n" not in problem
    assert re.search(told, problem), problem


def test_a_method_of_one_s_own_can_be_named():
    own = {"methods": {"elr-strong": {"elr": {"weight": 7}}}, "mri": {"methods": ["ce", "elr-strong", "sop"]}}
    assert check_study({**STUDY, "lab": own}) is None
