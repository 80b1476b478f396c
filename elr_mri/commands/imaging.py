"""Commands of zone `imaging`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.options import DEFAULTS, Batch, Batches, Config, Converted, Output, Registered, Scans, Splits


@app.command(
    epilog="Example: `elr-mri convert --scans scans.tsv --batch 003 --batches 12 --output results/imaging/convert`"
)
def convert(scans: Scans, batch: Batch, output: Output, batches: Batches = 0, config_: Config = DEFAULTS) -> None:
    """Bring native scans (NIfTI, MGZ, DICOM, zip members) to RAS+ NIfTI."""
    from elr_mri.imaging.convert import convert as run

    run(scans, batch, batches, config.section(config.Convert, "convert", config_), output)


@app.command(epilog="Example: `elr-mri audit --scans scans.tsv --splits splits.tsv --converted DIR --output audit.tsv`")
def audit(scans: Scans, splits: Splits, converted: Converted, output: Output, config_: Config = DEFAULTS) -> None:
    """Find images that stand under two ids; stop where one person is in two splits or cohorts."""
    from elr_mri.imaging.audit import audit as run

    run(scans, splits, converted, config.section(config.Audit, "audit", config_), output)


@app.command(
    epilog="Example: `elr-mri register --scans scans.tsv --converted results/imaging/convert --batch 003 --batches 12 --output results/imaging/register`"
)
def register(
    scans: Scans, converted: Converted, batch: Batch, output: Output, batches: Batches = 0, config_: Config = DEFAULTS
) -> None:
    """Correct the bias field, extract the brain, register it to the template (affine, then SyN) and check the result."""
    from elr_mri.imaging.register import register as run

    run(scans, converted, batch, batches, config.section(config.Register, "register", config_), output)


@app.command(epilog="Example: `elr-mri regions --config study.yaml --output results/imaging/regions`")
def regions(
    output: Output,
    config_: Config,
    registering: Annotated[
        str | None, typer.Option(help="The section `register`, where --config is `regions` as JSON.")
    ] = None,
    measuring: Annotated[
        str | None, typer.Option(help="The section `measure`, where --config is `regions` as JSON.")
    ] = None,
) -> None:
    """Say which region each voxel of the study's grid belongs to: what saliency is summed over."""
    from elr_mri.imaging.regions import regions as run

    register_ = config.section(config.Register, "register", registering or config_)
    measure_ = config.section(config.Measure, "measure", measuring or config_)
    run(config.section(config.Regions, "regions", config_), register_, measure_, output)


@app.command(epilog="Example: `elr-mri atlases --config study.yaml --output results/imaging/atlases`")
def atlases(
    output: Output,
    config_: Config,
    registering: Annotated[
        str | None, typer.Option(help="The section `register`, where --config is `atlases` as JSON.")
    ] = None,
) -> None:
    """Register the study's manually labelled atlases to the template, once, for label fusion."""
    from elr_mri.imaging.atlases import atlases as run

    register_ = config.section(config.Register, "register", registering or config_)
    run(config.section(config.Atlases, "atlases", config_), register_, output)


@app.command(
    epilog="Example: `elr-mri measure --scans scans.tsv --registered results/imaging/register --batch 003 --batches 12 --output results/imaging/measure`"
)
def measure(
    scans: Scans,
    registered: Registered,
    batch: Batch,
    output: Output,
    batches: Batches = 0,
    converted: Annotated[Path | None, typer.Option(help="What `convert` wrote; for source fusion.")] = None,
    atlases: Annotated[Path | None, typer.Option(help="What `atlases` wrote; for source fusion.")] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Measure hippocampal, entorhinal and intracranial volumes in native space, mm³."""
    from elr_mri.imaging.measure import measure as run

    settings = config.section(config.Measure, "measure", config_)
    run(scans, registered, batch, batches, settings, output, convert_dir=converted, atlases_dir=atlases)


@app.command(
    epilog="Example: `elr-mri review --scans scans.tsv --converted DIR --registered DIR --config config/config.yaml --output DIR`"
)
def review(
    scans: Scans, converted: Converted, registered: Registered, output: Output, config_: Config = DEFAULTS
) -> None:
    """Gather quality control's verdicts in one table and one page, worst first; a person's decisions overrule them."""
    from elr_mri.imaging.review import review as run

    run(scans, converted, registered, config.section(config.Review, "review", config_), output)


@app.command(
    epilog="Example: `elr-mri pack --scans scans.tsv --reviewed review.tsv --converted DIR --registered DIR --measured DIR --output DIR`"
)
def pack(
    scans: Scans,
    reviewed: Annotated[Path, typer.Option(help="review.tsv, as `review` wrote it.")],
    converted: Converted,
    registered: Registered,
    measured: Annotated[Path, typer.Option(help="The folder that `measure` wrote.")],
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Gather the registered volumes into one memory-mapped cache, and count what failed."""
    from elr_mri.imaging.cache import pack as run

    run(scans, reviewed, converted, registered, measured, config.section(config.Pack, "pack", config_), output)
