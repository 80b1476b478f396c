"""Can the maps be believed? Checks that a map of the architecture or of chance fails.

| check | what is compared | source |
|---|---|---|
| fresh weights | the map of the model with the map of a network of its make that learnt nothing | Adebayo et al., NeurIPS 2018 |
| random labels | with the map of a network trained on labels drawn at random | the same |
| split halves | the mean maps of two halves of the subjects | |
| fresh weights, preference | the ratio of the medial temporal regions that a network has which learnt nothing | |
| planted regions | the same of the trained model, in a phantom study | |
| completeness | the sum of integrated gradients with the change of the evidence | Sundararajan, Taly, Yan, ICML 2017 |

The thresholds were set before any map was looked at, and stand in `checks.tsv` beside each number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from elr_mri.learning.attended import Parts
from elr_mri.learning.checkpoint import Model
from elr_mri.learning.twins import Twins
from elr_mri.scans.saliency import FAIL, NOT_MADE, PASS

#: A map is like another from this rank correlation on: fresh weights and random labels must stay below, halves above.
LIKE = 0.5
#: A network that learnt nothing may prefer a region by at most this ratio.
NO_PREFERENCE = 1.5
#: What a model of phantoms must reach in the planted regions.
PLANTED = 3.0
#: By what share of itself the change of the evidence may be missed.
INCOMPLETE = 0.05
#: How often subjects are parted into halves; the mean counts.
N_PARTINGS = 10
#: Steps from the top of the network to its first layer, at most.
N_STEPS = 5

FRESH, LABELS, HALVES = "fresh weights", "random labels", "split halves"
PREFERENCE, CONCENTRATION, COMPLETE = "fresh weights, preference", "planted regions", "completeness"


def judged(check: str, value: float | None, asked: str, threshold: float, note: str = "") -> dict[str, Any]:
    """A line of `CHECKS`; a check without a number was not made, one that is not a number fails."""
    if value is None:
        verdict = NOT_MADE
    else:
        verdict = PASS if (value >= threshold if asked == "at least" else value <= threshold) else FAIL
    known = value is not None and np.isfinite(value)
    told = {"value": value if known else None, "asked": asked, "threshold": threshold}
    return {"check": check, **told, "verdict": verdict, "note": note}


def rank_correlation(first: np.ndarray, second: np.ndarray, parts: Parts) -> float:
    """Spearman's ρ of two maps' magnitudes, (n_channels, X, Y, Z) each, over the counted voxels; NaN where one is constant."""
    one, other = parts.counted(first), parts.counted(second)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)


def halves(by_group: np.ndarray, parts: Parts, seed: int = 0) -> float | None:
    """Mean rank correlation of the signed mean maps of two halves of the groups; None for fewer than two groups.

    by_group : (n_groups, n_channels, X, Y, Z)
    """
    if len(by_group) < 2:
        return None
    rng, found = np.random.default_rng(seed), []
    counted = by_group[..., parts.seen].reshape(len(by_group), -1)
    for _ in range(N_PARTINGS):
        order = rng.permutation(len(by_group))
        first, second = (counted[part].sum(axis=0) for part in np.array_split(order, 2))
        found.append(stats.spearmanr(first, second).statistic)
    return float(np.mean(found))


def cascade(model: Model, fresh: Model) -> Iterator[tuple[str, Model]]:
    """The model with more and more of its layers from `fresh`, from the top down, ending with all; the lowest one's name with each.

    The model's weights are put back at the end. Members of twins go together.
    """
    kept = {name: value.clone() for name, value in model.network.state_dict().items()}
    try:
        for name, layers in _steps(model.network, fresh.network):
            for own, new in layers:
                own.load_state_dict(new.state_dict())
            yield name, model
    finally:
        model.network.load_state_dict(kept)


def _steps(network: nn.Module, fresh: nn.Module) -> list[tuple[str, list[tuple[nn.Module, nn.Module]]]]:
    """Layers with weights and their fresh counterparts, from the top, in at most `N_STEPS` parts; the last has all that is left."""
    if isinstance(network, Twins):
        members = [_steps(*pair) for pair in zip(network.members, fresh.members, strict=True)]
        return [(parts[0][0], [pair for _, layers in parts for pair in layers]) for parts in zip(*members, strict=True)]
    found = [
        (name, (own, new))
        for (name, own), new in zip(network.named_modules(), fresh.modules(), strict=True)
        if next(own.parameters(recurse=False), None) is not None or next(own.buffers(recurse=False), None) is not None
    ]
    order = [name for name, _ in network.named_children()]
    blocks = [part for part in found if part[0].split(".")[0] == order[0]]
    above = [part for part in found if part[0].split(".")[0] != order[0]]
    steps = [above[::-1], *_parted(blocks[::-1], N_STEPS - 1)]
    return [(layers[-1][0], [pair for _, pair in layers]) for layers in steps if layers]


def _parted(layers: list, n: int) -> list[list]:
    """A list in at most `n` consecutive parts of about one length."""
    edges = np.linspace(0, len(layers), min(n, len(layers)) + 1).astype(int)
    return [layers[a:b] for a, b in zip(edges[:-1], edges[1:])]


def missed(sums: torch.Tensor, changes: torch.Tensor) -> float:
    """By what share sums of integrated gradients (n_scans,) miss the changes of the evidence (n_scans,), over all scans together."""
    return float((sums - changes).abs().sum() / changes.abs().sum().clamp_min(1e-12))
