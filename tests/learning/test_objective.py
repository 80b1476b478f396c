"""The losses say what the authors' released code says (`goldens/`), and each has the limits of its equation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.config import METHODS, Elr, Gce, Loss, Model, Sop, Train
from elr_mri.errors import BadInput
from elr_mri.learning.averaging import ramp, weight_average
from elr_mri.learning.gce import generalised_cross_entropy
from elr_mri.learning.objective import Objective
from elr_mri.learning.twins import Mixture, Twins, draw_mixture, each

GOLDENS = Path(__file__).parent / "goldens"


def cases(name: str) -> list[Any]:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def near(found: Tensor | float, expected: Any, off: float = 1e-6) -> None:
    """The same to 1e-6; of values above 1, to 1e-6 of their size."""
    torch.testing.assert_close(torch.as_tensor(found), torch.tensor(expected), atol=off, rtol=off)


def alone(labels: Tensor, n_classes: int, loss: Loss, **more: Any) -> Objective:
    return Objective(labels, n_classes, loss, nn.Identity(), **more)


def one_step(objective: Objective, z: Tensor, rows: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by the logits z (batch, n_classes), as the loops take them."""
    z = z.clone().requires_grad_()
    seen = objective.unmixed(z[:, None])
    objective.observe(rows, seen)
    loss = objective(z[:, None], rows, step, objective.mixtures(len(rows), 0))
    (gradient,) = torch.autograd.grad(loss, z)
    objective.settle(rows, seen, nn.Identity())
    return loss.detach(), gradient


def test_aligned_elr_asks_for_the_classes_as_the_labels_are_weighed() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    loss = Loss(elr=Elr(weight=3.0, beta=0.0, align=True))
    near(alone(labels, 3, loss).shares, [1 / 2, 1 / 6, 1 / 3])
    weights = 6 / (3 * torch.tensor([3.0, 1.0, 2.0]))
    balanced = alone(labels, 3, loss, class_weights=weights)
    near(balanced.shares, [1 / 3] * 3)
    assert alone(labels, 3, Loss(elr=Elr(weight=3.0))).shares is None
    # logits that prefer the outer classes: the aligned loss pulls the last scan to the middle, the published one away from it
    z, rows = torch.tensor([[3.0, 0, 0], [3, 0, 0], [2, 1, 1], [1, 1, 0.9], [0, 0, 3], [0.9, 1, 1.1]]), torch.arange(6)
    pulls = []
    for align in (False, True):
        objective = alone(labels, 3, Loss(elr=Elr(weight=30.0, beta=0.0, align=align)), class_weights=weights)
        pulls.append(-one_step(objective, z, rows)[1][5, 1].item())
    assert pulls[0] < 0 < pulls[1]
    assert "shares" not in balanced.state_dict()  # follows from the labels


@pytest.mark.parametrize("case", cases("elr"))
def test_elr_is_the_published_loss(case: dict[str, Any]) -> None:
    n_classes = len(case["steps"][0]["logits"][0])
    loss = Loss(elr=Elr(weight=case["weight"], beta=case["beta"]))
    objective = alone(torch.tensor(case["labels"]), n_classes, loss)
    for number, told in enumerate(case["steps"]):
        value, gradient = one_step(objective, torch.tensor(told["logits"]), torch.tensor(told["rows"]), number)
        near(value, told["loss"])
        near(gradient, told["gradient"])
        near(objective.estimates(), told["targets"])


def linear_twins(start: list[Any]) -> Twins:
    members = [nn.Linear(4, 3) for _ in start]
    for member, values in zip(members, start, strict=True):
        with torch.no_grad():
            for weights, value in zip(member.parameters(), values, strict=True):
                weights.copy_(torch.tensor(value))
    return Twins(members)


@pytest.mark.parametrize("case", cases("elr_plus"))
def test_elr_plus_is_the_published_training(case: dict[str, Any]) -> None:
    """Mixed scans, labels and targets, the other's averaged weights, both ramps: eight steps end at the published weights."""
    keys = ("weight", "beta", "ramp_steps", "ema", "ema_ramp_steps")
    loss = Loss(elr=Elr(targets="both", mixup=1.0, **{key: case[key] for key in keys}))
    x, labels, network = torch.tensor(case["inputs"]), torch.tensor(case["labels"]), linear_twins(case["start"])
    objective = Objective(labels, 3, loss, network)
    optimizer = torch.optim.SGD(network.parameters(), lr=case["learning_rate"])
    for number, told in enumerate(case["steps"]):
        rows = torch.tensor(told["rows"])
        mixtures = [Mixture(torch.tensor(m["partners"]), m["share"]) for m in told["mixtures"]]
        logits = each(network, x[rows], mixtures=mixtures)
        seen = objective.unmixed(logits, x[rows])
        objective.observe(rows, seen)
        value = objective(logits, rows, number, mixtures)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        objective.settle(rows, seen, network)
        near(value, sum(told["losses"]))
        for k, targets in enumerate(objective.targets):
            near(targets.targets, told["targets"][k])
        for found, expected in ((network, told["weights"]), (objective.teacher.module, told["averages"])):
            for member, values in zip(found.members, expected, strict=True):
                for weights, value in zip(member.parameters(), values, strict=True):
                    near(weights.detach(), value)


@pytest.mark.parametrize("n_classes", [3, 10, 100])
def test_targets_of_a_sure_network_are_clamped_by_elr_and_not_by_elr_plus(n_classes: int) -> None:
    """The released code of ELR keeps probabilities 1e-4 off 0 and 1 before it averages them, that of ELR+ does not: with 100 classes 1e-2 apart."""
    z = torch.zeros(1, n_classes)
    z[0, 0] = 30.0
    told = {}
    for kind in ("outputs", "both"):
        twins = Twins([nn.Identity()] * 2)
        objective = Objective(torch.tensor([0]), n_classes, Loss(elr=Elr(targets=kind, beta=0.0)), twins)
        objective.observe(torch.tensor([0]), z[:, None].repeat(1, len(objective.targets), 1))
        told[kind] = objective.targets[0].targets[0]
        assert torch.isfinite(objective(z[:, None].repeat(1, len(objective.targets), 1), torch.tensor([0]), 0))
    torch.testing.assert_close(told["both"], z[0].softmax(0), atol=1e-7, rtol=0)
    assert (told["outputs"] - told["both"]).abs().max() == pytest.approx(1 - 0.9999 / (0.9999 + (n_classes - 1) * 1e-4), rel=1e-3)  # fmt: skip


def test_what_is_said_of_a_scan_is_the_network_s_own_unless_it_sees_mixtures() -> None:
    logits, seen = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    for method, loss in METHODS.items():
        n_networks = loss.elr.n_networks if loss.elr else 1
        objective = Objective(LABELS, 3, loss, Twins([nn.Linear(1, 1)] * 2) if n_networks == 2 else nn.Linear(1, 1))
        expected = seen if method == "elr-plus" else logits
        said = objective.voice(logits[:, :n_networks], seen[:, :n_networks])
        torch.testing.assert_close(said, expected[:, :n_networks].mean(dim=1))


@pytest.mark.parametrize("case", cases("sop"))
def test_sop_is_the_published_loss(case: dict[str, Any]) -> None:
    n_classes = len(case["steps"][0]["logits"][0])
    loss = Loss(sop=Sop(u_rate=case["u_rate"], v_rate=case["v_rate"]))
    objective = alone(torch.tensor(case["labels"]), n_classes, loss)
    objective.sop.u.copy_(torch.tensor(case["start"]["u"]))
    objective.sop.v.copy_(torch.tensor(case["start"]["v"]))
    for number, told in enumerate(case["steps"]):
        value, gradient = one_step(objective, torch.tensor(told["logits"]), torch.tensor(told["rows"]), number)
        near(value, told["loss"])
        near(gradient, told["gradient"])
        near(objective.sop.u, told["u"])
        near(objective.sop.v, told["v"])


def test_a_scan_that_stands_twice_in_a_batch_moves_twice() -> None:
    once, twice = (alone(torch.tensor([0, 1]), 3, Loss(sop=Sop())) for _ in range(2))
    for objective in (once, twice):
        objective.sop.u.fill_(0.1)
        objective.sop.v.fill_(0.1)
    z = torch.tensor([[0.3, -0.2, 0.4]])
    one_step(once, z, torch.tensor([1]))
    one_step(twice, z.repeat(2, 1), torch.tensor([1, 1]))
    torch.testing.assert_close(twice.sop.u, once.sop.u)
    torch.testing.assert_close(twice.sop.v, once.sop.v)


logits = st.lists(st.lists(st.floats(-6, 6, width=32), min_size=3, max_size=3), min_size=4, max_size=4).map(
    torch.tensor
)
LABELS, ROWS = torch.tensor([0, 1, 2, 2]), torch.arange(4)


def cross_entropy(z: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
    z = z.clone().requires_grad_()
    loss = functional.cross_entropy(z, LABELS, **more)
    return loss.detach(), torch.autograd.grad(loss, z)[0]


def same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], **off: float) -> None:
    """Loss and gradient."""
    torch.testing.assert_close(found[0], expected[0], **off)
    torch.testing.assert_close(found[1], expected[1], **off)


@bounds(max_examples=30, deadline=None)
@given(logits)
def test_without_a_word_and_with_no_weight_it_is_cross_entropy_to_the_bit(z: Tensor) -> None:
    for loss in (Loss(), Loss(elr=Elr(weight=0.0)), Loss(label_smoothing=0.0)):
        same(one_step(alone(LABELS, 3, loss), z, ROWS), cross_entropy(z), atol=0, rtol=0)


@bounds(max_examples=30, deadline=None)
@given(logits, st.floats(0.01, 1))
def test_generalised_cross_entropy_lies_between_cross_entropy_and_absolute_error(z: Tensor, q: float) -> None:
    p = z.softmax(1)[ROWS, LABELS]
    near(generalised_cross_entropy(z, LABELS, q), ((1 - p**q) / q).tolist(), 1e-5)
    near(generalised_cross_entropy(z, LABELS, 1.0), (1 - p).tolist())
    same(one_step(alone(LABELS, 3, Loss(gce=Gce(q=1e-6))), z, ROWS), cross_entropy(z), atol=2e-4, rtol=1e-4)


@bounds(max_examples=30, deadline=None)
@given(logits, st.floats(0.01, 0.9))
def test_label_smoothing_spreads_a_share_of_the_label(z: Tensor, share: float) -> None:
    soft = (1 - share) * functional.one_hot(LABELS, 3) + share / 3
    expected = -(soft * z.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(one_step(alone(LABELS, 3, Loss(label_smoothing=share)), z, ROWS)[0], expected)


@bounds(max_examples=30, deadline=None)
@given(logits, st.permutations(range(4)))
def test_a_mixture_that_is_all_of_the_scan_itself_is_none(z: Tensor, partners: list[int]) -> None:
    objective = alone(LABELS, 3, Loss(elr=Elr(targets="weights", mixup=1.0)))
    objective.observe(ROWS, z[:, None])
    whole = Mixture(torch.tensor(partners), 1.0)
    assert torch.equal(whole.of(z), z)
    same(*(_loss_and_gradient(objective, z, mixture) for mixture in (whole, None)), atol=1e-6, rtol=1e-5)


def _loss_and_gradient(objective: Objective, z: Tensor, mixture: Mixture | None) -> tuple[Tensor, Tensor]:
    z = z.clone().requires_grad_()
    loss = objective(z[:, None], ROWS, 0, [mixture])
    return loss.detach(), torch.autograd.grad(loss, z)[0]


@bounds(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.1, 5))
def test_a_drawn_mixture_is_mostly_the_scan_itself(seed: int, n: int, alpha: float) -> None:
    drawn = draw_mixture(np.random.default_rng(seed), n, alpha)
    assert 0.5 <= drawn.share <= 1 and sorted(drawn.partners.tolist()) == list(range(n))
    x = torch.arange(n).double()
    torch.testing.assert_close(drawn.of(x), drawn.share * x + (1 - drawn.share) * x[drawn.partners])


def test_each_network_takes_the_other_s_targets() -> None:
    objective = Objective(LABELS, 3, Loss(elr=Elr(targets="networks", beta=0.0)), Twins([nn.Identity()] * 2))
    z = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    objective.observe(ROWS, z)
    for k in (0, 1):
        torch.testing.assert_close(objective.targets[k].targets, z[:, 1 - k].softmax(1), atol=1e-3, rtol=0)
    torch.testing.assert_close(objective.estimates(), z.softmax(2).mean(1), atol=1e-3, rtol=0)


def test_targets_of_weights_are_what_the_averaged_weights_say() -> None:
    """They move with the average, not with the network, and are taken in evaluation mode."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5)), torch.randn(4, 5)
    start = network[0].weight.detach().clone()
    objective = Objective(LABELS, 3, Loss(elr=Elr(targets="weights", beta=0.0, ema=0.9)), network)
    with torch.no_grad():
        network[0].weight += 1
    objective.settle(ROWS, each(network, x).detach(), network)
    objective.teacher.train()
    seen = objective.unmixed(each(network, x), x)
    average = start + (1 - 0.1) * 1  # the decay of the first step is 0.1
    torch.testing.assert_close(objective.teacher.module[0].weight.detach(), average)
    torch.testing.assert_close(seen[:, 0], functional.linear(x, average, network[0].bias.detach()))
    objective.observe(ROWS, seen)
    torch.testing.assert_close(objective.estimates(), seen[:, 0].softmax(1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("n_steps", [1, 5, 40])
def test_the_decay_of_averaged_weights_rises_as_published(n_steps: int) -> None:
    network = nn.Linear(1, 1, bias=False)
    average, expected = weight_average(network, 0.9, n_steps), network.weight.item()
    for k in range(1, 50):
        with torch.no_grad():
            network.weight.fill_(k)
        average.update_parameters(network)
        decay = 0.9 * np.exp(-5 * (1 - min(1, (k + 1) / n_steps)) ** 2)
        expected = decay * expected + (1 - decay) * k
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert decay == 0.9


def test_the_ramp_of_the_weight_counts_from_the_first_step() -> None:
    assert ramp(0, 0) == 1 and ramp(40, 40) == ramp(99, 40) == 1 and ramp(20, 40) == pytest.approx(np.exp(-1.25))
    z, told = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), []
    for n_steps in (0, 10):
        objective = alone(LABELS, 3, Loss(elr=Elr(ramp_steps=n_steps)))
        told.append([(one_step(objective, z, ROWS, step)[0] - cross_entropy(z)[0]).item() for step in (0, 8, 9, 10)])
    np.testing.assert_allclose(np.divide(told[1], told[0]), [ramp(1, 10), ramp(9, 10), 1, 1], rtol=1e-4)


def test_class_weights_reach_every_loss() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([2.0, 0.0, 0.0])
    for loss in (Loss(), Loss(sop=Sop()), Loss(gce=Gce()), Loss(label_smoothing=0.1)):
        torch.manual_seed(0)
        _, gradient = one_step(alone(LABELS, 3, loss, class_weights=weights), z, ROWS)
        assert gradient[0].abs().max() > 0.01
        if not loss.label_smoothing:  # which spreads a label over classes of another weight
            assert gradient[1:].abs().max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_all_that_a_loss_remembers_is_in_its_state(method: str) -> None:
    def made() -> tuple[Objective, nn.Module]:
        torch.manual_seed(0)
        network = nn.Linear(3, 3)
        loss = METHODS[method]
        if loss.elr and loss.elr.n_networks == 2:
            network = Twins([network, nn.Linear(3, 3)])
        return Objective(LABELS, 3, loss, network), network

    def step(objective: Objective, network: nn.Module, number: int) -> Tensor:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))
        mixtures = objective.mixtures(4, number)
        out = each(network, x, mixtures=mixtures)
        seen = objective.unmixed(out, x)
        objective.observe(ROWS, seen)
        loss = objective(out, ROWS, number, mixtures)
        objective.settle(ROWS, seen, network)
        return loss

    (first, network), (again, other) = made(), made()
    for number in range(3):
        step(first, network, number)
    again.load_state_dict(first.state_dict())
    assert torch.equal(step(first, network, 3), step(again, other, 3))


def test_what_makes_no_sense_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="one of elr, sop and gce, not elr and sop"):
        Loss(elr=Elr(), sop=Sop())
    with pytest.raises(ValidationError, match="one of elr, sop and gce, not sop and gce"):
        Loss(gce=Gce(), sop=Sop())
    for targets in ("outputs", "networks"):
        with pytest.raises(ValidationError, match="mixup needs targets of unmixed scans"):
            Elr(targets=targets, mixup=1.0)
    for own in ({"sop": Sop()}, {"gce": Gce()}):
        with pytest.raises(ValidationError, match="label_smoothing goes with cross-entropy or elr"):
            Loss(**own, label_smoothing=0.1)
        with pytest.raises(ValidationError, match="give models.a its own label_smoothing: 0"):
            Train(models={"a": Model(network="wide", **own)}, label_smoothing=0.1)
        assert Train(models={"a": Model(network="wide", **own, label_smoothing=0)}, label_smoothing=0.1).of("a")
        with pytest.raises(BadInput, match="label smoothing with cross-entropy or elr"):
            alone(LABELS, 3, Loss(**own).model_copy(update={"label_smoothing": 0.1}))
