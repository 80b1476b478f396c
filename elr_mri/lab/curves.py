"""Does a network memorize? What it says of its training examples, epoch by epoch, clean and wrongly labelled ones apart.

The talk's figures: Liu et al., NeurIPS 2020, figures 1 and 2 (shares), and figure 3 with lemma 2 (gradients).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from elr_mri.config import Loss
from elr_mri.learning.elr import MARGIN

#: Examples with a right label, and with a wrong one.
GROUPS = ("clean", "wrong")
#: What an example may be predicted as: the true class, the given wrong one, another one.
PREDICTED = ("true", "given", "other")
#: The loss's gradient, and of ELR cross-entropy's part and the regularizer's.
PARTS = ("gradient", "entropy", "regularizer")


def memorization(said: np.ndarray, true: np.ndarray, given: np.ndarray) -> pd.DataFrame:
    """Shares of the training examples predicted as the true class, as the given wrong one, and as another one.

    Parameters
    ----------
    said : (n_epochs, n_examples, n_classes) float, probabilities
    true, given : (n_examples,) int

    Returns
    -------
    DataFrame
        epoch (from 1), group (clean or wrong), n, true, given, other; a clean example's given class is its true one and
        counts as that, so `given` is 0 there.
    """
    guesses = said.argmax(axis=-1)
    kinds = np.where(guesses == true, 0, np.where(guesses == given, 1, 2))
    groups = [[(kinds[:, own] == kind).sum(axis=1) for kind in range(3)] for own in (true == given, true != given)]
    return shares_table(np.array(groups).transpose(2, 0, 1))


def shares_table(counts: np.ndarray) -> pd.DataFrame:
    """The table of `memorization`, of the numbers of examples (n_epochs, 2, 3) by group and by what they are predicted as."""
    n = counts.sum(axis=2)
    shares = counts / np.where(n > 0, n, np.nan)[..., None]
    rows = [(e + 1, name, int(n[e, g]), *shares[e, g]) for g, name in enumerate(GROUPS) for e in range(len(counts))]
    return pd.DataFrame(rows, columns=["epoch", "group", "n", *PREDICTED])


def has_gradients(loss: Loss) -> bool:
    """Whether the gradient at each example follows from what its own network said of it: of cross-entropy, and of ELR with a steady λ
    and targets from that network's outputs, not aligned with others'."""
    own = loss.elr is None or (loss.elr.targets == "outputs" and not loss.elr.ramp_steps and not loss.elr.align)
    return own and not (loss.sop or loss.gce)


def gradients(
    said: np.ndarray, true: np.ndarray, given: np.ndarray, loss: Loss, *, class_weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Mean length of the loss's gradient with respect to the logits, for clean and for wrongly labelled examples.

    For cross-entropy p − y, with y smoothed where the loss smooths it; with ELR λ p_c / (1 − ⟨p,t⟩) Σ_k (t_k − t_c) p_k beside it (lemma 2), where
    the targets follow from what was said. The loss clamps p, and a clamped p_k has no slope: it leaves the sum.

    Parameters
    ----------
    said, true, given
        As `memorization` takes them.
    class_weights : (n_classes,) float or None
        Factor of the cross-entropy of each class.

    Returns
    -------
    DataFrame
        epoch (from 1), group (clean or wrong), gradient; and of ELR the part of cross-entropy alone (`entropy`) and of the
        regularizer alone (`regularizer`).
    """
    if not has_gradients(loss):
        raise ValueError("a gradient that does not follow from what was said; see has_gradients")
    targets, sums = np.zeros(said.shape[1:]), []
    groups = np.stack([true == given, true != given])
    for p in said.astype(np.float64):
        targets = next_targets(targets, p, loss)
        entropy, regularizer = logit_gradients(p, given, targets, loss, class_weights=class_weights)
        lengths = [np.linalg.norm(g, axis=1) for g in (entropy + regularizer, entropy, regularizer)]
        sums.append(groups @ np.stack(lengths, axis=1))
    return slopes_table(np.array(sums), groups.sum(axis=1))


def slopes_table(sums: np.ndarray, n: np.ndarray) -> pd.DataFrame:
    """The table of `gradients`, of the sums of the lengths (n_epochs, 2, 3) by group and part, and the examples of each group (2,)."""
    means = sums / np.where(n > 0, n, np.nan)[:, None]
    rows = [(e, name, *line) for e, both in enumerate(means, 1) for name, line in zip(GROUPS, both, strict=True)]
    return pd.DataFrame(rows, columns=["epoch", "group", *PARTS])


def next_targets(targets: np.ndarray, p: np.ndarray, loss: Loss) -> np.ndarray:
    """ELR's targets (n_examples, n_classes) after the probabilities p of an epoch; as they were without ELR."""
    if not loss.elr:
        return targets
    clamped = p.clip(MARGIN, 1 - MARGIN)
    return loss.elr.beta * targets + (1 - loss.elr.beta) * clamped / clamped.sum(axis=1, keepdims=True)


def logit_gradients(
    p: np.ndarray, given: np.ndarray, targets: np.ndarray, loss: Loss, *, class_weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of each example's cross-entropy and of its regularizer with respect to its logits, both (n_examples, n_classes), in closed form."""
    smoothing, n_classes = loss.label_smoothing or 0.0, p.shape[1]
    labels = (1 - smoothing) * np.eye(n_classes)[given] + smoothing / n_classes
    if class_weights is not None:
        labels = labels * class_weights
    entropy = labels.sum(axis=1, keepdims=True) * p - labels
    if not loss.elr:
        return entropy, np.zeros_like(p)
    clamped = p.clip(MARGIN, 1 - MARGIN)
    agreement = (targets * clamped).sum(axis=1, keepdims=True)
    steep = targets * (clamped == p)
    return entropy, loss.elr.weight * p / (1 - agreement) * ((steep * p).sum(axis=1, keepdims=True) - steep)
