"""The options that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    str, typer.Option("--config", help="A study's YAML file (the step takes its own section), or that section as JSON.")
]
Output = Annotated[Path, typer.Option("--output", help="Where the result goes.")]
Scans = Annotated[Path, typer.Option("--scans", help="The scan table, scans.tsv.")]
Splits = Annotated[Path, typer.Option("--splits", help="The split table, splits.tsv.")]
Converted = Annotated[Path, typer.Option("--converted", help="The folder that `convert` wrote.")]
Registered = Annotated[Path, typer.Option("--registered", help="The folder that `register` wrote.")]
Packed = Annotated[Path, typer.Option("--packed", help="The cache folder that `pack` wrote.")]
Batch = Annotated[str, typer.Option("--batch", help="Which batch of scans; see --batches.")]
Batches = Annotated[
    int, typer.Option("--batches", help="Number of batches; 0: every subject is a batch, named by its id.")
]
ModelFolder = Annotated[Path, typer.Option("--model", help="A model folder.")]

#: The section of a step that needs no config.
DEFAULTS = "{}"
