"""Commands of zone `scans`, and the study that the others run on by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.errors import BadInput
from elr_mri.options import DEFAULTS, Config, Output, Scans


@app.command(epilog="Example: `elr-mri phantom --config config/config.yaml --output results/phantom`")
def phantom(output: Output, config_: Config = DEFAULTS) -> None:
    """Write the built-in synthetic study in the formats of ADNI and NACC downloads, with the truth beside it."""
    from elr_mri.phantom.study import phantom as run

    run(config.section(config.Phantom, "phantom", config_), output)


@app.command(
    epilog="Example: `elr-mri ingest --cohorts config/adni_nacc.yaml --config config/adni_nacc.yaml --output results/scans/ingest`"
)
def ingest(
    cohorts: Annotated[str, typer.Option(help="The `cohorts` of a study: its YAML file, or the list as JSON.")],
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Find every image of the download folders, match it with its clinical visit, and account for all of them."""
    from elr_mri.scans.ingest import ingest as run

    run(config.cohorts(cohorts), config.section(config.Ingest, "ingest", config_), output)


@app.command(
    epilog="Example: `elr-mri split --scans results/scans/ingest/scans.tsv --external NACC --assigned assigned.tsv --output splits.tsv`"
)
def split(
    scans: Scans,
    output: Output,
    external: Annotated[
        list[str] | None, typer.Option(help="A cohort that is only tested on; may be repeated.")
    ] = None,
    assigned: Annotated[
        Path | None,
        typer.Option(help="The ledger of assignments: whom it names keeps split and fold; the others are added to it."),
    ] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Divide subjects into train, val and test; prove that nobody stands in two."""
    from elr_mri.scans.split import split as run

    run(scans, config.section(config.Split, "split", config_), external or [], output, assigned_path=assigned)


@app.command(epilog="Example: `elr-mri demographics --scans scans.tsv --splits splits.tsv --output demographics.tsv`")
def demographics(
    output: Output,
    scans: Annotated[Path | None, typer.Option("--scans", help="The scan table, scans.tsv.")] = None,
    splits: Annotated[Path | None, typer.Option("--splits", help="The split table, splits.tsv.")] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of these two: published split tables, `train=A.tsv,val=B.tsv,test=C.tsv`; no image is needed."
        ),
    ] = None,
) -> None:
    """Tabulate subjects, scans and age by split and diagnosis."""
    from elr_mri.scans import demographics as step

    if published:
        step.demographics_of_published(config.published(published), output)
    elif scans and splits:
        step.demographics(scans, splits, output)
    else:
        raise BadInput(
            expected="--scans and --splits, or --published",
            got="neither",
            where="elr-mri demographics",
            fix="See elr-mri demographics --help.",
        )
