import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from elr_mri.learning.elr import EarlyLearningTargets, elr_loss


def test_targets_are_a_running_average_that_starts_at_zero() -> None:
    targets = EarlyLearningTargets(4, 3, beta=0.7)
    p = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    targets.update(torch.tensor([2, 0]), p)
    targets.update(torch.tensor([2, 0]), p)
    torch.testing.assert_close(targets.targets[2], (0.3 + 0.7 * 0.3) * p[0])
    torch.testing.assert_close(targets.targets[0], (0.3 + 0.7 * 0.3) * p[1])
    assert targets.targets[[1, 3]].abs().max() == 0


def test_certain_predictions_are_clamped_and_renormalised() -> None:
    targets = EarlyLearningTargets(1, 3, beta=0.0)
    targets.update(torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]]))
    expected = torch.tensor([0.9999, 1e-4, 1e-4])
    torch.testing.assert_close(targets.targets[0], expected / expected.sum())
    assert torch.isfinite(targets.penalty(torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])))


def test_targets_are_part_of_the_state_dict() -> None:
    assert EarlyLearningTargets(5, 3, 0.9).state_dict()["targets"].dtype == torch.float32


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3), st.integers(0, 2), st.floats(0.1, 8))
def test_gradient_is_the_closed_form(z: list[float], label: int, weight: float) -> None:
    """NeurIPS 2020, lemma 2: ∂/∂z_c log(1 − ⟨p,t⟩) = p_c / (1 − ⟨p,t⟩) · Σ_k (t_k − t_c) p_k."""
    targets = EarlyLearningTargets(2, 3, beta=0.7).double()
    targets.targets.copy_(torch.tensor([[0.5, 0.2, 0.1], [0.1, 0.7, 0.1]], dtype=torch.float64))
    logits, rows = torch.tensor([z], dtype=torch.float32, requires_grad=True), torch.tensor([1])
    elr_loss(logits, torch.tensor([label]), rows, targets, weight).backward()
    p, t = functional.softmax(torch.tensor(z, dtype=torch.float64), dim=0), targets.targets[1]
    if p.min() < 2e-4:
        return  # the clamp has its own test
    term = p / (1 - p @ t) * ((t[None, :] - t[:, None]) @ p)
    expected = p - functional.one_hot(torch.tensor(label), 3) + weight * term
    assert (logits.grad[0].double() - expected).abs().max() < 1e-6 * max(1.0, weight)


def test_without_weight_it_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = elr_loss(logits, labels, torch.arange(6), EarlyLearningTargets(6, 3, 0.7), 0.0)
    plain = functional.cross_entropy(logits, labels)
    assert loss.item() == plain.item()
    torch.testing.assert_close(*(torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, plain)))


def test_agreement_with_the_targets_is_rewarded() -> None:
    targets, rows = EarlyLearningTargets(1, 3, beta=0.0), torch.tensor([0])
    targets.update(rows, torch.tensor([[0.8, 0.1, 0.1]]))
    agree, differ = (targets.penalty(rows, torch.tensor([p])) for p in ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]))
    assert agree < differ < 0


def test_the_penalty_does_not_reach_back_through_the_targets() -> None:
    targets, rows = EarlyLearningTargets(1, 3, beta=0.5), torch.tensor([0])
    p = torch.tensor([[0.5, 0.3, 0.2]], requires_grad=True)
    targets.update(rows, p)
    assert not targets.targets.requires_grad
    assert pytest.approx(targets.targets.sum().item()) == 0.5


def test_aligned_targets_have_the_classes_as_common_as_asked() -> None:
    targets = EarlyLearningTargets(300, 3, beta=0.0)
    rows, rng = torch.arange(300), torch.Generator().manual_seed(0)
    targets.update(rows, functional.softmax(torch.randn(300, 3, generator=rng) + torch.tensor([2.0, 0.0, 2.0]), dim=1))
    targets.targets.mul_(0.3)  # as after the first epoch: sums are not 1 yet
    equal = torch.full((3,), 1 / 3)
    moved = targets.aligned(rows, equal)
    torch.testing.assert_close(moved.sum(dim=1), targets.targets.sum(dim=1))
    before, after = (t.sum(dim=0) / t.sum() for t in (targets.targets, moved))
    assert before[1] < 0.12 and (after - equal).abs().max() < 0.5 * (before - equal).abs().max()
    # within a class the order of the scans stays, and targets that are as common as asked are not moved
    order = targets.targets[:, 1] / targets.targets[:, 0]
    assert torch.equal(order.argsort(), (moved[:, 1] / moved[:, 0]).argsort())
    torch.testing.assert_close(targets.aligned(rows, before), targets.targets)


def test_aligned_targets_are_finite_where_nothing_was_said_yet() -> None:
    targets = EarlyLearningTargets(2, 3, beta=0.5)
    assert torch.equal(targets.aligned(torch.arange(2), torch.full((3,), 1 / 3)), torch.zeros(2, 3))
    targets.targets.copy_(torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]))
    assert torch.isfinite(targets.aligned(torch.arange(2), torch.full((3,), 1 / 3))).all()
