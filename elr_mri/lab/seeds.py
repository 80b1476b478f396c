"""Several trainings of one method: how sure its scores are over subjects and seeds together.

Each bootstrap draw takes subjects with all their scans (`findings/bootstrap.py`) and, independently of it, seeds with replacement. Methods are
scored on the same draws, and seed k has the same wrong labels for all, so that differences are paired by subject and by seed.
"""

from __future__ import annotations

import numpy as np


def seed_shares(n_seeds: int, *, draws: int, seed: int) -> np.ndarray:
    """How much of each draw each seed is: (n_seeds, draws), columns sum to 1.

    Stretched about the mean by √(n/(n − 1)), because a plain bootstrap of n seeds tells only (n − 1)/n of their variance (Rao & Wu, JASA 83, 1988).
    """
    rng = np.random.default_rng([seed, n_seeds])
    plain = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws).T / n_seeds
    return plain if n_seeds == 1 else 1 / n_seeds + (plain - 1 / n_seeds) * np.sqrt(n_seeds / (n_seeds - 1))


def covers(n_seeds: int) -> str:
    """What an interval rests on."""
    return "subjects and seeds" if n_seeds > 1 else "subjects"


def over_seeds(draws: np.ndarray, seed: int) -> np.ndarray:
    """(n_seeds, draws) of subjects to (draws,) of subjects and seeds; none beyond what a single seed reached on some draw."""
    taken = (draws * seed_shares(len(draws), draws=draws.shape[1], seed=seed)).sum(axis=0)
    return taken.clip(np.nanmin(draws), np.nanmax(draws))
