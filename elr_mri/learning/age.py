"""Age as the network sees it: a sinusoidal code of half years, or one number.

Source: the talk and the released code (NYUMedML/CNN_design_for_AD); the code of a position is
that of Vaswani et al., NeurIPS 2017, section 3.5, with the half year as the position.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

#: Positions of the code: half years 0, 0.5, … 119.5; its dimension is that of the reference.
N_POSITIONS = 240
DIMENSION = 512


def positions(ages_years: Tensor) -> Tensor:
    """Ages in years to positions: 2 · age, rounded; the index is the position, not the years.

    >>> positions(torch.tensor([72.0, 72.3])).tolist()
    [144, 145]
    """
    return (2 * ages_years).round().long().clamp(0, N_POSITIONS - 1)


def sinusoids(n_positions: int = N_POSITIONS, dimension: int = DIMENSION) -> Tensor:
    """(n_positions, dimension) float32: PE(p, 2i) = sin(p · 10000^(−2i/d)), PE(p, 2i+1) = cos(same)."""
    rates = torch.exp(torch.arange(0, dimension, 2, dtype=torch.float64) * (-math.log(10_000.0) / dimension))
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).reshape(n_positions, dimension).float()


class AgeEncoder(nn.Module):
    """Age to a vector that is added to the image's: code → Linear → LayerNorm → Linear.

    Parameters
    ----------
    n_features : int
        Length of the image's feature vector.
    code : "sinusoid" or "scalar"
        `scalar` replaces the sinusoidal code by one number, (age − 75) / 10, and changes nothing else.
    """

    def __init__(self, n_features: int, code: Literal["sinusoid", "scalar"] = "sinusoid"):
        super().__init__()
        self.code = code
        if code == "sinusoid":
            self.register_buffer("table", sinusoids(), persistent=False)
        n_inputs = DIMENSION if code == "sinusoid" else 1
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, DIMENSION), nn.LayerNorm(DIMENSION), nn.Linear(DIMENSION, n_features)
        )

    def forward(self, ages_years: Tensor) -> Tensor:
        """Ages (batch,) float, years → (batch, n_features)."""
        if self.code == "sinusoid":
            return self.layers(self.table[positions(ages_years)])
        return self.layers((ages_years[:, None] - 75) / 10)
