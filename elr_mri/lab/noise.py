"""Wrong labels on purpose."""

from __future__ import annotations

import numpy as np

from elr_mri import config
from elr_mri.errors import BadInput


def corrupt(
    labels: np.ndarray,
    n_classes: int,
    noise: config.Noise,
    *,
    probabilities: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Labels (n,) of which a share goes to a neighbouring class, either of the two for a middle one."""
    if noise.kind != "adjacent" or noise.per != "scan":
        raise BadInput(
            expected="adjacent noise of scans", got=noise.kind, where="lab.noise", fix="Choose kind: adjacent."
        )
    rng = np.random.default_rng(noise.seed)
    drawn, up = rng.random(len(labels)) < noise.share, rng.random(len(labels)) < 0.5
    step = np.where(labels == 0, 1, np.where(labels == n_classes - 1, -1, np.where(up, 1, -1)))
    return np.where(drawn, labels + step, labels)
