"""The steps of the command line, by zone; each imports its zone only when it runs."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From T1-weighted MRI to CN / MCI / AD predictions, with the evidence for them.",
)
