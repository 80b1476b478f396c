"""Commands of zone `findings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.errors import BadInput
from elr_mri.options import DEFAULTS, Config, Output, Packed, Scans, Splits


@app.command(
    epilog="Example: `elr-mri baseline --rois results/imaging/pack/roi_volumes.tsv --scans scans.tsv --splits splits.tsv --output results/findings/baseline`, or of FreeSurfer tables `elr-mri baseline --train ADNI_train_volumes.tsv --val ADNI_val_volumes.tsv --test ADNI_test_volumes.tsv --external NACC_volumes.tsv --output baseline`"
)
def baseline(
    output: Output,
    rois: Annotated[Path | None, typer.Option(help="roi_volumes.tsv, as `pack` wrote it.")] = None,
    scans: Annotated[Path | None, typer.Option(help="The scan table, scans.tsv; goes with --rois.")] = None,
    splits: Annotated[Path | None, typer.Option(help="The split table, splits.tsv; goes with --rois.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="In place of these: one table with FreeSurfer's columns, diagnosis, age and split."),
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Or one such table for each split.")] = None,
    val: Annotated[Path | None, typer.Option(help="As --train.")] = None,
    test: Annotated[Path | None, typer.Option(help="As --train.")] = None,
    external: Annotated[Path | None, typer.Option(help="As --train; scans of other cohorts.")] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Fit the volume baselines, hippocampus and entorhinal cortex alone and all regions, and predict every scan with them."""
    from elr_mri.findings.baseline import baseline as run
    from elr_mri.findings.baseline import baseline_of_tables

    settings = config.section(config.Baseline, "baseline", config_)
    named = {"path": table, "train": train, "val": val, "test": test, "external": external}
    named = {name: str(path) for name, path in named.items() if path is not None}
    if named:
        tables = settings.tables.model_dump(exclude_unset=True) | named
        tables = config.parse(config.RoiTables, tables, where="baseline")
        settings = settings.model_copy(update={"tables": tables})
    if rois is not None and scans is not None and splits is not None and not named:
        run(roi_path=rois, scans_path=scans, splits_path=splits, settings=settings, out_dir=output)
    elif (rois, scans, splits) == (None, None, None) and (settings.tables.path or settings.tables.train):
        baseline_of_tables(settings=settings, out_dir=output)
    else:
        raise BadInput(
            expected="--rois, --scans and --splits, or tables by --table or by --train, --val and --test",
            got="neither or both",
            where="elr-mri baseline",
            fix="Name one or the other.",
        )


@app.command(
    epilog="Example: `elr-mri fuse --volumes results/findings/baseline/predictions.tsv --network results/learning/wide/seed-0/predictions.tsv --output results/findings/fuse`"
)
def fuse(
    volumes: Annotated[Path, typer.Option(help="predictions.tsv of `baseline`.")],
    network: Annotated[list[Path], typer.Option(help="predictions.tsv of a network; given for each of its seeds.")],
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Fuse a volume baseline and a network by stacking on the validation scans."""
    from elr_mri.findings.fuse import fuse as run

    settings = config.section(config.Fuse, "fuse", config_)
    run(volume_path=volumes, network_paths=network, settings=settings, out_dir=output)


@app.command(epilog="Example: `elr-mri evaluate results/learning/*/seed-0/predictions.tsv --output results/findings`")
def evaluate(
    predictions: Annotated[list[Path], typer.Argument(help="Prediction tables, one per model and seed.")],
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Score predictions with subject-clustered intervals and paired differences."""
    from elr_mri.findings.evaluate import evaluate as run

    run(prediction_paths=predictions, settings=config.section(config.Evaluate, "evaluate", config_), out_dir=output)


@app.command(
    epilog="Example: `elr-mri subgroups results/findings/baseline/predictions.tsv results/learning/wide/seed-0/predictions.tsv --scans scans.tsv --output subgroups.tsv`"
)
def subgroups(
    predictions: Annotated[list[Path], typer.Argument(help="Prediction tables, one per model and seed.")],
    scans: Scans,
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Score models by age, sex, scanner, site and APOE ε4, and flag the gaps that hold."""
    from elr_mri.findings.subgroups import subgroups as run

    settings = config.section(config.Subgroups, "subgroups", config_)
    run(prediction_paths=predictions, scans_path=scans, settings=settings, out_path=output)


@app.command(
    epilog="Example: `elr-mri progression results/findings/baseline/predictions.tsv results/learning/wide/seed-0/predictions.tsv --scans scans.tsv --visits visits.tsv --output tables`"
)
def progression(
    predictions: Annotated[list[Path], typer.Argument(help="Prediction tables; the first model's is compared with.")],
    scans: Scans,
    visits: Annotated[Path, typer.Option(help="visits.tsv of `ingest`.")],
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Time from MCI to AD by predicted risk: Kaplan–Meier, Cox, concordance."""
    from elr_mri.findings.progression import progression as run

    settings = config.section(config.Progression, "progression", config_)
    run(prediction_paths=predictions, scans_path=scans, visits_path=visits, settings=settings, out_dir=output)


@app.command(
    epilog="Example: `elr-mri shift --scans scans.tsv --splits splits.tsv --packed results/imaging/pack --output shift.tsv`"
)
def shift(scans: Scans, splits: Splits, packed: Packed, output: Output, config_: Config = DEFAULTS) -> None:
    """How test and external scans differ from the training scans: people, scanners, volumes, intensities."""
    from elr_mri.findings.shift import shift as run

    settings = config.section(config.Shift, "shift", config_)
    run(scans_path=scans, splits_path=splits, pack_dir=packed, settings=settings, out_path=output)


@app.command(
    epilog="Example: `elr-mri report --tables results/findings/tables --scans scans.tsv --packed results/imaging/pack --study config/config.yaml --figures DIR --output report.html`"
)
def report(
    tables: Annotated[Path, typer.Option(help="The tables that `evaluate` wrote.")],
    scans: Scans,
    packed: Packed,
    study: Annotated[
        str, typer.Option(help="The whole study's config: its YAML file, or JSON. The report tells what was run.")
    ],
    figures: Annotated[Path, typer.Option(help="Folder for every figure as PNG and SVG.")],
    output: Output,
    exclusions: Annotated[Path | None, typer.Option(help="exclusions.tsv of `ingest`.")] = None,
    notes: Annotated[Path | None, typer.Option(help="notes.tsv of `ingest`.")] = None,
    splits: Annotated[Path | None, typer.Option(help="The table of `split`.")] = None,
    demographics: Annotated[Path | None, typer.Option(help="The table of `demographics`.")] = None,
    registered: Annotated[Path | None, typer.Option(help="The folder that `register` wrote.")] = None,
    model: Annotated[list[Path] | None, typer.Option(help="A model folder; may be repeated.")] = None,
    explained: Annotated[Path | None, typer.Option(help="The folder that `explain` wrote.")] = None,
    ablations: Annotated[
        Path | None, typer.Option(help="The tables that `evaluate` wrote for the base model and its ablations.")
    ] = None,
    ablated: Annotated[
        list[Path] | None, typer.Option(help="A model folder of the base or an ablation; may be repeated.")
    ] = None,
    reviewed: Annotated[Path | None, typer.Option(help="review.html of `review`, to link to.")] = None,
    lab: Annotated[Path | None, typer.Option(help="The folder that `lab mri` wrote.")] = None,
    audited: Annotated[Path | None, typer.Option(help="The folder that `lab audit` wrote.")] = None,
    experiment: Annotated[
        list[Path] | None,
        typer.Option(help="The folder `linear`, `images` or `tables` that `lab` wrote; may be repeated."),
    ] = None,
    subgroups: Annotated[Path | None, typer.Option(help="The table of `subgroups`.")] = None,
    shift: Annotated[Path | None, typer.Option(help="The table of `shift`.")] = None,
    progression: Annotated[Path | None, typer.Option(help="The folder of the tables of `progression`.")] = None,
    baselines: Annotated[Path | None, typer.Option(help="The folder that `baseline` wrote.")] = None,
    fused: Annotated[Path | None, typer.Option(help="The folder that `fuse` wrote.")] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Draw the figures and write the one page that people read."""
    from elr_mri.findings.report import report as run

    run(
        tables_dir=tables,
        scans_path=scans,
        pack_dir=packed,
        settings=config.section(config.Report, "report", config_),
        study=config.study(study),
        page_path=output,
        figures_dir=figures,
        exclusions_path=exclusions,
        notes_path=notes,
        splits_path=splits,
        demographics_path=demographics,
        register_dir=registered,
        model_dirs=model or [],
        explain_dir=explained,
        ablation_tables_dir=ablations,
        ablated_dirs=ablated or [],
        review_path=reviewed,
        lab_dir=lab,
        audit_dir=audited,
        experiment_dirs=experiment or [],
        subgroups_path=subgroups,
        shift_path=shift,
        progression_dir=progression,
        baseline_dir=baselines,
        fuse_dir=fused,
    )
