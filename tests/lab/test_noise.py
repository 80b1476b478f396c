"""Wrong labels: the share that was asked for, only where and what the kind says, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elr_mri.config import Noise
from elr_mri.errors import BadInput
from elr_mri.lab.noise import draw, growing_chances, wrong_labels

KINDS = ("symmetric", "others", "asymmetric", "adjacent", "instance")
MAP = {0: 1, 1: 0, 2: 1}
common = settings(max_examples=40, deadline=None)


def made(kind: str, true: np.ndarray, share: float = 0.4, *, seed: int = 0, n_classes: int = 3, **more):
    """Wrong labels of a kind with all that it may need."""
    more.setdefault("reference", np.random.default_rng(5).dirichlet(np.ones(n_classes), len(true)))
    per = "subject" if "subjects" in more else "scan"
    known = MAP if kind == "asymmetric" else {}
    return wrong_labels(true, n_classes, Noise(kind=kind, share=share, map=known, seed=seed, per=per), **more)


classes = st.lists(st.integers(0, 2), min_size=1, max_size=80).map(np.array)
shares = st.floats(0, 1)


@common
@given(st.sampled_from(KINDS), classes, shares, st.integers(0, 99))
def test_the_share_that_was_asked_for_is_drawn(kind, true, share, seed):
    told = made(kind, true, share, seed=seed)
    assert abs(told.drawn.sum() - share * len(true)) < 1 + 1e-6
    assert (told.given[~told.drawn] == true[~told.drawn]).all()
    assert set(told.given) <= {0, 1, 2}
    if kind != "symmetric":  # only there may a drawn label be right
        assert ((told.given != true) == told.drawn).all()
    if kind != "instance":  # each class gives its share too
        for k in range(3):
            assert abs(told.drawn[true == k].sum() - share * (true == k).sum()) < 1 + 1e-6


@common
@given(st.sampled_from(KINDS), classes, st.integers(0, 99))
def test_a_seed_gives_the_same_labels_again(kind, true, seed):
    first, second = made(kind, true, seed=seed), made(kind, true, seed=seed)
    np.testing.assert_array_equal(first.given, second.given)
    np.testing.assert_array_equal(first.drawn, second.drawn)


def test_seeds_and_streams_differ():
    true = np.arange(300) % 3
    draws = [made("adjacent", true, seed=seed, stream=stream).given for seed in (0, 1) for stream in (0, 1)]
    assert len({d.tobytes() for d in draws}) == 4


@common
@given(classes, shares, st.integers(2, 6))
def test_adjacent_labels_are_neighbours(true, share, n_classes):
    told = made("adjacent", true % n_classes, share, n_classes=n_classes)
    assert (np.abs(told.given - true % n_classes) == told.drawn).all()
    assert told.given.min() >= 0 and told.given.max() < n_classes


def test_the_middle_class_goes_either_way_alike():
    told = made("adjacent", np.ones(1000, dtype=int), 1.0)
    assert 440 < (told.given == 0).sum() < 560 and (told.given == 1).sum() == 0


def test_symmetric_noise_is_really_wrong_less_often_than_it_is_drawn():
    true = np.arange(10_000) % 10
    told = made("symmetric", true, 0.4, n_classes=10)
    assert told.drawn.mean() == pytest.approx(0.4)
    assert (told.given != true).mean() == pytest.approx(0.36, abs=0.006)  # the published 40 % of CIFAR-10
    others = made("others", true, 0.4, n_classes=10)
    assert (others.given != true).mean() == pytest.approx(0.4)
    counts = np.bincount((others.given - true)[others.drawn] % 10, minlength=10)
    assert counts[0] == 0 and counts[1:].min() > 370  # 444 of each are expected


def test_asymmetric_noise_follows_the_map():
    true = np.arange(300) % 3
    told = wrong_labels(true, 3, Noise(kind="asymmetric", share=0.5, map={2: 1}))
    assert (told.given[told.drawn & (true == 2)] == 1).all() and (told.given[true < 2] == true[true < 2]).all()
    assert told.drawn.mean() == 0.5 and (told.given != true).sum() == 50


@pytest.mark.parametrize("changes", [{0: 7}, {1: 1}])
def test_a_map_that_says_nothing_possible_is_refused(changes):
    with pytest.raises(BadInput, match="noise.map"):
        wrong_labels(np.arange(3), 3, Noise(kind="asymmetric", map=changes))


@common
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=60), st.sampled_from(KINDS))
def test_all_visits_of_a_subject_are_flipped_alike(visits, kind):
    subjects, true = np.array(visits).T
    told = made(kind, true, 0.5, subjects=subjects)
    for subject in np.unique(subjects):
        own = subjects == subject
        assert len(set(told.drawn[own])) == 1
        if kind != "instance":  # there the wrong class is each visit's own likeliest
            assert len(set(zip(true[own], told.given[own], strict=True))) == len(set(true[own]))
    n_subjects = len(np.unique(subjects))
    assert abs(len(np.unique(subjects[told.drawn])) - 0.5 * n_subjects) < 1


def test_hard_examples_are_flipped_more_often_and_to_what_they_look_like():
    rng = np.random.default_rng(0)
    true = np.arange(600) % 3
    reference = rng.dirichlet(np.ones(3), 600)
    hardness = np.where(np.eye(3)[true] == 1, 0, reference).max(axis=1)
    seen = np.zeros(600)
    for seed in range(100):
        told = made("instance", true, 0.3, seed=seed, reference=reference)
        assert told.drawn.mean() == pytest.approx(0.3, abs=1 / 600)
        likeliest = np.where(np.eye(3)[true] == 1, -1, reference).argmax(axis=1)
        assert (told.given[told.drawn] == likeliest[told.drawn]).all()
        seen += told.drawn
    np.testing.assert_allclose(seen / 100, growing_chances(hardness, 0.3), atol=0.21)
    thirds = np.array_split(np.argsort(hardness), 3)
    easy, middle, hard = (seen[third].mean() for third in thirds)
    assert easy + 5 < middle and middle + 5 < hard


@common
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50).map(np.array), shares)
def test_chances_grow_with_hardness_and_have_the_mean_that_was_asked_for(hardness, share):
    hardness = hardness.round(6)
    if share > (hardness > 0).mean():
        with pytest.raises(BadInput, match="room"):
            growing_chances(hardness, share)
        return
    chances = growing_chances(hardness, share)
    assert chances.mean() == pytest.approx(share, abs=1e-9)
    assert chances.min() >= 0 and chances.max() <= 1
    assert (np.diff(chances[np.argsort(hardness)]) >= -1e-12).all()


def test_a_draw_takes_each_with_its_chance():
    chances, strata = np.array([0.1, 0.9, 0.5, 1.0, 0.0, 0.25, 0.25]), np.array([0, 0, 1, 1, 1, 2, 2])
    rng = np.random.default_rng(3)
    often = np.mean([draw(rng, chances, strata) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(often, chances, atol=0.03)
    assert often[3] == 1 and often[4] == 0


def test_what_a_kind_needs_is_asked_for():
    with pytest.raises(BadInput, match="reference"):
        wrong_labels(np.arange(3), 3, Noise(kind="instance"))
    with pytest.raises(BadInput, match="subjects"):
        wrong_labels(np.arange(3), 3, Noise(per="subject"))
