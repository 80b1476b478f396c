"""Which settings a method is given: those whose networks agree best with the validation scans' given labels.

Balanced accuracy by labels of which some are wrong, after the last epoch, mean over a few seeds. Wrong labels that do not depend on the image lower every
model's accuracy towards chance and mostly keep the order of the models, so that noisy validation labels choose nearly as clean ones would
(Chen et al., "Robustness of Accuracy Metric and its Inspiration in Learning with Noisy Labels", AAAI 2021). Cross-entropy does not have that
property here: it punishes a confident network for every wrong label, which is what ELR makes. Few scans give many trials the same balanced
accuracy, such as that of a network which never says MCI; among these the order of the scans decides, the macro-AUC by the same labels. The labels of these trials are one draw
that no scored run uses, and neither test nor external scans are even looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax

from elr_mri.config import GRIDS, Candidate, Fit, Loss
from elr_mri.errors import BadInput
from elr_mri.findings.metrics import score
from elr_mri.lab.table_runs import Data, Run, candidate, kind_of, outcome
from elr_mri.scans.table import CLASSES

#: The draw of wrong labels that the trials see; scored runs draw theirs by their seeds.
TRIAL_DRAW = 900_000
#: What a trial is chosen by: the first, and among equals the second.
SCORES = ("val_balanced_accuracy", "val_macro_auc")


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
    """The loss and the training of the best trial, and a line of each: method, share, trial, keys, val_balanced_accuracy, val_macro_auc, chosen."""
    given = data.given("val", share, TRIAL_DRAW)
    lines, made = [], [candidate(loss, data.settings.fit, trial) for trial in trials]
    for number, (tried_loss, tried_fit) in enumerate(made):
        scores = []
        for seed in range(data.settings.trial_seeds):
            run = Run(f"trial-{method}", tried_loss, tried_fit, share, TRIAL_DRAW, seed, judged=("val",))
            logits = outcome(run, data)["last_val"]
            scores.append((score(given, sure(logits))["balanced_accuracy"], _macro_auc(given, logits)))
        keys = trials[number].model_dump(exclude_none=True)
        lines.append(
            {
                "method": method,
                "share": share,
                "trial": number + 1,
                "keys": ", ".join(f"{name} {value:g}" for name, value in keys.items()),
                **dict(zip(SCORES, np.mean(scores, axis=0).tolist(), strict=True)),
            }
        )
    table = pd.DataFrame(lines)
    best = max(range(len(table)), key=lambda k: tuple(table.loc[k, list(SCORES)].round(9)))  # the first of equals
    return *made[best], table.assign(chosen=[int(number == best) for number in range(len(table))])


def _macro_auc(given: np.ndarray, logits: np.ndarray) -> float:
    """Of (n, n_classes) logits; 0 where it is not defined, for want of a class or of finite logits."""
    if not np.isfinite(logits).all():
        return 0.0
    return float(np.nan_to_num(score(given, softmax(logits, axis=1))["macro_auc"]))


def sure(logits: np.ndarray) -> np.ndarray:
    """(n, n_classes) 1 for the class of the highest logit: all that balanced accuracy looks at, and never not finite."""
    return np.eye(len(CLASSES))[np.nan_to_num(logits, nan=-np.inf).argmax(axis=1)]
