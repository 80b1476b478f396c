"""The mini study, run once for all tests of the workflow."""

from pathlib import Path

import pytest
from studies import changed, run

MINI = changed(
    batches=2,
    phantom={"n_subjects": 26, "n_external": 6, "visits_per_subject": 1, "spacing_mm": 4.0, "effect_scale": 3.0},
    split={"val_share": 0.2, "test_share": 0.3},
    register={
        "spacing_mm": 4.0,
        "syn_spacing_mm": 4.0,
        "syn_iterations": [4, 4],
        "detail_iterations": 0,
        "n4_iterations": [5],
    },
    train={
        "epochs": 1,
        "crop": 40,
        "shift_max": 1,
        "models": {
            "wide-age-elr": {
                "network": "wide",
                "width": 1,
                "first_pool": False,
                "age": "sinusoid",
                "elr": {"weight": 1.0},
            },
            "resnet18": {"network": "resnet18", "width": 1, "norm": "batch"},
        },
    },
    evaluate={"draws": 200},
)


@pytest.fixture(scope="session")
def mini(tmp_path_factory) -> Path:
    """Folder of the finished mini study."""
    folder = tmp_path_factory.mktemp("mini")
    finished = run(folder, MINI)
    assert finished.returncode == 0, finished.stdout[-4000:]
    return folder
