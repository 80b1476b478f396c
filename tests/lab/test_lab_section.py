"""What of the lab's config is refused, before anything runs."""

import re

import pytest

from elr_mri.config import check_study

STUDY = {
    "cohorts": [{"name": "A", "format": "adni", "path": "a"}],
    "train": {"models": {"wide": {"network": "wide"}}},
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
    ],
)
def test_a_name_that_nothing_has_is_told_in_one_line(lab, told):
    problem = check_study({**STUDY, "lab": lab})
    assert problem is not None and "\n" not in problem
    assert re.search(told, problem), problem


def test_a_method_of_one_s_own_can_be_named():
    own = {"methods": {"elr-strong": {"elr": {"weight": 7}}}, "mri": {"methods": ["ce", "elr-strong"]}}
    assert check_study({**STUDY, "lab": own}) is None
