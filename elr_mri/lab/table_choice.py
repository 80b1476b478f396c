"""Which settings a method is given: those whose networks agree best with the validation scans' given labels.

Balanced accuracy by labels of which some are wrong, after the last epoch, mean over a few seeds. Wrong labels that do not depend on the image lower every
model's accuracy towards chance and mostly keep the order of the models, so that noisy validation labels choose nearly as clean ones would
(Chen et al., "Robustness of Accuracy Metric and its Inspiration in Learning with Noisy Labels", AAAI 2021). Cross-entropy does not have that
property here: it punishes a confident network for every wrong label, which is what ELR makes. The labels of these trials are one draw
that no scored run uses, and neither test nor external scans are even looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from elr_mri.config import GRIDS, Candidate, Fit, Loss
from elr_mri.errors import BadInput
from elr_mri.findings.metrics import score
from elr_mri.lab.table_runs import Data, Run, candidate, kind_of, outcome
from elr_mri.scans.table import CLASSES

#: The draw of wrong labels that the trials see; scored runs draw theirs by their seeds.
TRIAL_DRAW = 900_000


def grid_of(
    method: str, loss: Loss, grids: dict[str, tuple[Candidate, ...]], *, fixed: Collection[str] = ()
) -> tuple[Candidate, ...]:
    """The trials of a method: those that the config names by its name or its kind of loss, else the default of its kind without the keys in `fixed`.

    Trials that are alike without these stay, so that every method is given as many; they are one training.
    """
    kind = kind_of(loss)
    if named := grids.get(method) or grids.get(kind):
        return named
    return tuple(trial.model_copy(update=dict.fromkeys(fixed)) for trial in GRIDS[kind])


def fixed_keys(method: str, methods: dict[str, Loss]) -> list[str]:
    """The keys of its loss that the config itself sets of a method, in `lab.methods`."""
    own = methods.get(method)
    part = getattr(own, kind_of(own), None) if own is not None else None
    return [] if part is None else [name for name in Candidate.model_fields if name in part.model_fields_set]


def check_budgets(grids: dict[str, tuple[Candidate, ...]]) -> None:
    """Refuse a comparison in which one method is searched harder than another."""
    sizes = {method: len(grid) for method, grid in grids.items()}
    if len(set(sizes.values())) > 1:
        raise BadInput(
            expected="as many trials of one method as of another",
            got=", ".join(f"{method} {n}" for method, n in sizes.items()),
            where="lab.tables.grids",
            fix="Give every method a grid of one size.",
        )


def choose(
    method: str, loss: Loss, trials: Sequence[Candidate], share: float, data: Data
) -> tuple[Loss, Fit, pd.DataFrame]:
    """The loss and the training of the best trial, and a line of each: method, share, trial, keys, val_balanced_accuracy, chosen."""
    given = data.given("val", share, TRIAL_DRAW)
    lines, made = [], [candidate(loss, data.settings.fit, trial) for trial in trials]
    for number, (tried_loss, tried_fit) in enumerate(made):
        scores = []
        for seed in range(data.settings.trial_seeds):
            run = Run(f"trial-{method}", tried_loss, tried_fit, share, TRIAL_DRAW, seed, judged=("val",))
            scores.append(score(given, sure(outcome(run, data)["last_val"]))["balanced_accuracy"])
        keys = trials[number].model_dump(exclude_none=True)
        lines.append(
            {
                "method": method,
                "share": share,
                "trial": number + 1,
                "keys": ", ".join(f"{name} {value:g}" for name, value in keys.items()),
                "val_balanced_accuracy": float(np.mean(scores)),
            }
        )
    table = pd.DataFrame(lines)
    best = int(table["val_balanced_accuracy"].to_numpy().argmax())
    return *made[best], table.assign(chosen=[int(number == best) for number in range(len(table))])


def sure(logits: np.ndarray) -> np.ndarray:
    """(n, n_classes) 1 for the class of the highest logit: all that balanced accuracy looks at, and never not finite."""
    return np.eye(len(CLASSES))[np.nan_to_num(logits, nan=-np.inf).argmax(axis=1)]
