"""The mini study, run once for all tests of the workflow."""

from pathlib import Path

import pytest
from studies import MINI, run


@pytest.fixture(scope="session")
def mini(tmp_path_factory) -> Path:
    """Folder of the finished mini study; the truth is out of reach of every step but `phantom`."""
    folder = tmp_path_factory.mktemp("mini")
    for step, targets in (("phantom", ["results/phantom/study.json"]), ("the rest", [])):
        finished = run(folder, MINI, *targets)
        assert finished.returncode == 0, (step, finished.stdout[-4000:])
        if step == "phantom":
            (folder / "results" / "phantom" / "truth").rename(folder / "truth")
    (folder / "truth").rename(folder / "results" / "phantom" / "truth")
    return folder
