"""Images that changed are trained on again: planned only, nothing is run."""

import os
from pathlib import Path

import pytest
from studies import MINI, run

FINDINGS = "results/lab/images/findings.json"


@pytest.mark.parametrize(
    ("path", "changed"), [("cifar-10-python.tar.gz",) * 2, ("web", "web"), ("web", "web/train/cat")]
)
def test_changed_images_are_trained_on_again(path: str, changed: str, tmp_path: Path) -> None:
    (tmp_path / "web" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"images")
    (tmp_path / FINDINGS).parent.mkdir(parents=True)
    (tmp_path / FINDINGS).write_text("{}")
    made = (tmp_path / FINDINGS).stat().st_mtime
    for place in (*(tmp_path / "web").rglob("*"), tmp_path / "web", tmp_path / "cifar-10-python.tar.gz"):
        os.utime(place, (made - 60, made - 60))
    study = {**MINI, "lab": {"images": {"path": path}}}
    assert "Nothing to be done" in run(tmp_path, study, FINDINGS, "--dry-run").stdout
    os.utime(tmp_path / changed, (made + 60, made + 60))
    assert "rule lab_images:" in run(tmp_path, study, FINDINGS, "--dry-run").stdout
