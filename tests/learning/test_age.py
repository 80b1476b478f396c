import math

import pytest
import torch

from elr_mri.learning.age import AgeEncoder, positions, sinusoids


def test_the_index_of_an_age_is_its_half_years() -> None:
    assert positions(torch.tensor([0.0, 0.5, 71.9, 72.2, 119.5, 130.0])).tolist() == [0, 1, 144, 144, 239, 239]


@pytest.mark.parametrize("position, pair", [(1, 0), (144, 3), (239, 255)])
def test_the_code_is_sine_and_cosine_of_the_position(position: int, pair: int) -> None:
    angle = position * 10_000 ** (-2 * pair / 512)
    row = sinusoids()[position]
    assert row[2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
    assert row[2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("code", ["sinusoid", "scalar"])
def test_two_ages_have_two_codes_and_the_table_is_not_learned(code: str) -> None:
    encoder = AgeEncoder(16, code)
    young, old = encoder(torch.tensor([60.0, 85.0]))
    assert not torch.allclose(young, old)
    assert all("table" not in name for name, _ in encoder.named_parameters())
