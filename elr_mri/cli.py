"""The command line: one command per step, and only the zone that a step needs is imported.

Exit status 0 is good, 2 bad input (one clear line on standard error), 1 a fault of ours.
"""

from __future__ import annotations

import copy
import gc
import os
import sys
from importlib import import_module

gc.set_threshold(100_000)  # what a step imports it keeps: looking for rubbish was a tenth of its start-up
# Before the first section is made: pydantic would look for plug-ins in what every installed library says of itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import typer  # noqa: E402

from elr_mri.commands import app  # noqa: E402
from elr_mri.errors import BadInput, disk_fault  # noqa: E402

for _zone in ("scans", "imaging", "learning", "findings", "lab", "rooms"):  # the order of --help
    import_module(f"elr_mri.commands.{_zone}")


def main() -> None:
    """Run the command line; turn bad input into one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text
        stream.reconfigure(errors="backslashreplace")
    try:
        run(sys.argv[1:2])
    except BadInput as problem:
        _refuse(problem)
    except OSError as problem:
        if fault := disk_fault(problem):
            _refuse(fault)
        raise


def run(named: list[str]) -> None:
    """Run the step that is named; its options alone are read, since those of all steps would take 0.02 s."""
    steps = [step for step in app.registered_commands if named == [step.name or step.callback.__name__]]
    if steps:
        alone = copy.copy(app)
        alone.registered_commands, alone.registered_groups = steps, []
        typer.main.get_group(alone)()
    else:  # a room's step, --help, or no step at all
        app()


def _refuse(problem: BadInput) -> None:
    """One line, and exit status 2."""
    if not problem.leave():
        print(f"elr-mri: {problem}", file=sys.stderr)
    sys.exit(2)
