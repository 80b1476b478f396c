"""Commands of room `lab`: the noisy-label experiments."""

from __future__ import annotations

import typer

from elr_mri.commands import app

lab = typer.Typer(
    no_args_is_help=True, help="Do wrong labels mislead a network, and does early-learning regularization help?"
)
app.add_typer(lab, name="lab")
