"""Fixtures of the learning zone: a packed toy study and settings that train on it in seconds."""

from __future__ import annotations

import pytest
from toy_study import Study, write_study

from elr_mri.config import Elr, Model, Train


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def settings() -> Train:
    """Small enough for seconds: `wide` at its smallest crop."""
    models = {
        "wide": Model(network="wide", width=1, first_pool=False),
        "wide-age-elr": Model(network="wide", width=1, age="sinusoid", first_pool=False, elr=Elr(weight=3.0, beta=0.7)),
    }
    return Train(models=models, epochs=4, batch_size=4, crop=35, shift_max=1, precision="float32", device="cpu")
