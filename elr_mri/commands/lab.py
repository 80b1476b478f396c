"""Commands of room `lab`: the noisy-label experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.options import DEFAULTS, Config, Output, Packed, Scans, Splits

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


@lab.command(
    epilog='Example: `elr-mri lab images --output results/lab/images`, or `--config \'{"images": {"path": "cifar-10-python.tar.gz"}}\'` for CIFAR-10'
)
def images(output: Output, config_: Config = DEFAULTS) -> None:
    """Train image networks with wrong labels: cross-entropy, ELR and ELR+, on CIFAR, class folders, or scikit-learn's digits."""
    from elr_mri.lab.images import images as run

    run(config.section(config.Lab, "lab", config_), output)


@lab.command(
    epilog="Example: `elr-mri lab mri --run results/lab/mri/elr/share-0.4/seed-0 --labels results/lab/mri/labels/share-0.4_seed-0.tsv --scans scans.tsv --output results/lab/mri`"
)
def mri(
    run: Annotated[list[Path], typer.Option("--run", help="A model folder with its predictions; given for each run.")],
    labels: Annotated[
        list[Path], typer.Option(help="The labels that it was trained with; as often, in the same order.")
    ],
    scans: Scans,
    output: Output,
    truth: Annotated[Path | None, typer.Option(help="The true labels: the phantom's truth/visits.tsv.")] = None,
    config_: Config = DEFAULTS,
    evaluating: Annotated[
        str | None,
        typer.Option(help="The section `evaluate`, draws and level of intervals, where --config is `lab` as JSON."),
    ] = None,
) -> None:
    """Compare ways to learn from wrong labels on a study's own scans: what is memorized, and what was gained."""
    from elr_mri.lab.mri import mri as compare

    settings = config.section(config.Lab, "lab", config_)
    whole = DEFAULTS if config_.lstrip().startswith("{") else config_
    evaluation = config.section(config.Evaluate, "evaluate", evaluating or whole)
    compare(run, labels, scans, settings, truth_path=truth, out_dir=output, evaluation=evaluation)


@lab.command(
    epilog="Example: `elr-mri lab audit --run results/learning/wide-elr/seed-0 --scans scans.tsv --packed results/imaging/pack --output results/lab/audit`"
)
def audit(
    run: Annotated[list[Path], typer.Option("--run", help="A model folder; given for several seeds of a model.")],
    scans: Scans,
    packed: Packed,
    output: Output,
    baseline: Annotated[Path | None, typer.Option(help="model.json of the volume baseline, for percentiles.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The true labels, where known: the phantom's truth/visits.tsv.")
    ] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Rank the training scans by how strongly a model disagrees with their labels, as a page for clinical re-review."""
    from elr_mri.lab.audit import audit as rank

    settings = config.section(config.Lab, "lab", config_).audit
    rank(run, scans, packed, settings, baseline_path=baseline, truth_path=truth, out_dir=output)


@lab.command(
    epilog='Example: `elr-mri lab tables --output results/lab/tables`, or `--config \'{"tables": {"path": "roi.csv"}}\'` for a table of your own'
)
def tables(
    output: Output,
    truth: Annotated[
        Path | None,
        typer.Option(help="The phantom's truth/visits.tsv: these are the true labels, not the scan table's."),
    ] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Train small networks on ROI volumes with wrong labels: cross-entropy, ELR and SOP. Without a table a synthetic one is drawn."""
    from elr_mri.lab.tables import tables as run
    from elr_mri.phantom.roi_tables import roi_tables

    settings = config.section(config.Lab, "lab", config_)
    own = settings.tables
    if made_up := not (own.path or own.train):
        own = own.model_copy(update={"path": str(roi_tables(own.phantom, output / "phantom"))})
        settings = settings.model_copy(update={"tables": own})
    run(settings, output, truth_path=truth, made_up=made_up)
