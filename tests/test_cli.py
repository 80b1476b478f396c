"""A step starts with what it needs: its own command, its own section."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from pydantic import BaseModel

from elr_mri import cli, config, sections


@pytest.mark.parametrize("words", [["convert", "--help"], ["measure", "--nosuch"], ["lab", "linear", "--help"], ["x"]])
def test_a_step_by_itself_says_what_it_says_among_all(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["elr-mri", *words])
    told = []
    for way in (cli.main, cli.app):
        with pytest.raises(SystemExit) as left:
            way()
        told.append((left.value.code, *capsys.readouterr()))
    assert told[0] == told[1] and any(told[0][1:])
    assert len(cli.app.registered_commands) > 20 and cli.app.registered_groups  # the whole is as it was


def test_a_step_imports_no_section_but_its_own():
    code = (
        "import sys; from elr_mri import cli, config; config.section(config.Convert, 'convert', '{}'); "
        "print(*(name for name in sys.modules if name.startswith('elr_mri.sections.')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(told.split()) == {"elr_mri.sections.base", "elr_mri.sections.imaging"}


def test_every_section_has_its_name_in_config():
    made = {
        name: value
        for home in sections.HOMES
        for name, value in vars(importlib.import_module(f"elr_mri.sections.{home}")).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == f"elr_mri.sections.{home}"
    }
    assert set(made) <= set(config.__all__) and len(made) > 30
    assert all(getattr(config, name) is value for name, value in made.items())
    assert all(hasattr(config, name) for name in config.__all__)
    with pytest.raises(AttributeError, match="nosuch"):
        config.nosuch  # noqa: B018
