"""Commands of room `lab`: the noisy-label experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.options import DEFAULTS, Config, Output, Scans, Splits

lab = typer.Typer(
    no_args_is_help=True, help="Do wrong labels mislead a network, and does early-learning regularization help?"
)
app.add_typer(lab, name="lab")


@lab.command(
    epilog="Example: `elr-mri lab noise --scans scans.tsv --splits splits.tsv --config config/config.yaml --output labels.tsv`"
)
def noise(
    scans: Scans,
    splits: Splits,
    output: Output,
    config_: Config = DEFAULTS,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Predictions of a reference model that did not train on the scans (out of fold), for `kind: instance`."
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The phantom's truth/visits.tsv: labels are made wrong from the true ones, not from the scan table's."
        ),
    ] = None,
) -> None:
    """Make labels of training scans wrong, for `elr-mri train --labels`; test and external scans keep theirs."""
    from elr_mri.lab.scan_noise import noise as run

    settings = config.section(config.Lab, "lab", config_).noise
    run(scans, splits, settings, output=output, predictions_path=predictions, truth_path=truth)


@lab.command(epilog="Example: `elr-mri lab linear --output results/lab/linear`")
def linear(output: Output, config_: Config = DEFAULTS) -> None:
    """The two-class linear model with wrong labels: early learning, memorization, and what ELR changes; in seconds."""
    from elr_mri.lab.linear import linear as run

    settings = config.section(config.Lab, "lab", config_)
    methods = {name: settings.method(name) for name in settings.linear.methods}
    run(settings.linear, methods, out_dir=output)
