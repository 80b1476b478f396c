"""Commands of room `lab`: the noisy-label experiments."""

from __future__ import annotations

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.options import DEFAULTS, Config, Output

lab = typer.Typer(
    no_args_is_help=True, help="Do wrong labels mislead a network, and does early-learning regularization help?"
)
app.add_typer(lab, name="lab")


@lab.command(
    epilog='Example: `elr-mri lab tables --output results/lab/tables`, or `--config \'{"tables": {"path": "roi.csv"}}\'` for a table of your own'
)
def tables(output: Output, config_: Config = DEFAULTS) -> None:
    """Train small networks on ROI volumes with wrong labels: cross-entropy, ELR and SOP. Without a table a synthetic one is drawn."""
    from elr_mri.lab.tables import tables as run
    from elr_mri.phantom.roi_tables import roi_tables

    settings = config.section(config.Lab, "lab", config_)
    own = settings.tables
    if not (own.path or own.train):
        own = own.model_copy(update={"path": str(roi_tables(own.phantom, output / "phantom"))})
        settings = settings.model_copy(update={"tables": own})
    run(settings, output)
