"""The command line of `benchmarks/workflow.py`: its parts take minutes, so only what it would run is asked here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "workflow.py"
spec = importlib.util.spec_from_file_location("workflow_benchmark", PATH)
assert spec is not None and spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_without_a_part_everything_is_measured():
    assert benchmark.arguments([]).parts == ["plan", "parse", "start", "scan"]


def test_the_parts_that_are_named():
    assert benchmark.arguments(["scan", "plan"]).parts == ["scan", "plan"]


def test_a_part_that_is_none(capsys):
    with pytest.raises(SystemExit):
        benchmark.arguments(["plans"])
    assert "plans" in capsys.readouterr().err
