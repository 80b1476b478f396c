"""Generalised cross-entropy: between cross-entropy, which a wrong label pulls at without bound, and the mean absolute error.

Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018, equation 6.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def generalised_cross_entropy(logits: Tensor, labels: Tensor, q: float) -> Tensor:
    """(1 − p_y^q) / q of each example; its limit at q → 0 is cross-entropy, at q = 1 it is half the L1 distance.

    Parameters
    ----------
    logits : (batch, n_classes) float
    labels : (batch,) int

    Returns
    -------
    (batch,) float
    """
    log_p = -functional.cross_entropy(logits.float(), labels, reduction="none")
    return -(q * log_p).expm1() / q
