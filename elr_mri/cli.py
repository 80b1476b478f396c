"""The command line: one command per step, and only the zone that a step needs is imported.

Exit status 0 is good, 2 bad input (one clear line on standard error), 1 a fault of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.options import Batch, Batches, Config, Converted, ModelFolder, Output, Packed, Registered, Scans, Splits

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From T1-weighted MRI to CN / MCI / AD predictions, with the evidence for them.",
)

DEFAULTS = "{}"


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


@app.command(
    epilog="Example: `elr-mri train --packed results/imaging/pack --scans scans.tsv --splits splits.tsv --model wide-age-elr --config config/config.yaml --output results/learning/wide-age-elr/seed-0`"
)
def train(
    packed: Packed,
    scans: Scans,
    splits: Splits,
    model: Annotated[str, typer.Option(help="Which of `train.models` in the config.")],
    config_: Config,
    output: Output,
    seed: int = 0,
    restart: Annotated[
        bool, typer.Option(help="Start anew where a checkpoint of other settings or data is found.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="The scans are phantoms; the model will say so.")
    ] = False,
) -> None:
    """Train one network; killed at any moment, the same command continues."""
    from elr_mri.learning.train import train as run

    settings = config.section(config.Train, "train", config_)
    run(
        packed,
        scans,
        splits,
        settings,
        slug=model,
        seed=seed,
        out_dir=output,
        restart_if_changed=restart,
        synthetic=synthetic,
    )


@app.command(
    epilog="Example: `elr-mri predict --model results/learning/wide-age-elr/seed-0 --packed results/imaging/pack --scans scans.tsv --splits splits.tsv --output predictions.tsv`"
)
def predict(
    model: ModelFolder, packed: Packed, scans: Scans, splits: Splits, output: Output, config_: Config = DEFAULTS
) -> None:
    """Predict every packed scan with a trained model."""
    from elr_mri.learning.predict import predict as run

    run(model, packed, scans, splits, config.section(config.Predict, "predict", config_), output=output)


@app.command(
    epilog="Example: `elr-mri explain --model results/learning/wide-age-elr/seed-0 --packed results/imaging/pack --scans scans.tsv --splits splits.tsv --output results/learning/explain/wide-age-elr`"
)
def explain(
    model: ModelFolder, packed: Packed, scans: Scans, splits: Splits, output: Output, config_: Config = DEFAULTS
) -> None:
    """Map which voxels the predictions depend on: gradient saliency, aggregated and for one example of each class."""
    from elr_mri.learning.explain import explain as run

    run(model, packed, scans, splits, config.section(config.Explain, "explain", config_), output_dir=output)


@app.command(
    epilog="Example: `elr-mri baseline --rois results/imaging/pack/roi_volumes.tsv --scans scans.tsv --splits splits.tsv --output results/findings/baseline`"
)
def baseline(
    rois: Annotated[Path, typer.Option(help="roi_volumes.tsv, as `pack` wrote it.")],
    scans: Scans,
    splits: Splits,
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Fit the volume baseline and predict every packed scan with it."""
    from elr_mri.findings.baseline import baseline as run

    settings = config.section(config.Baseline, "baseline", config_)
    run(roi_path=rois, scans_path=scans, splits_path=splits, settings=settings, out_dir=output)


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
    reviewed: Annotated[Path | None, typer.Option(help="review.html of `review`, to link to.")] = None,
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
        review_path=reviewed,
    )


@app.command(
    name="predict-scan",
    epilog="Example: `elr-mri predict-scan scan.nii.gz --model results/learning/wide-age-elr/seed-0 --age 72 --out one_scan`",
)
def predict_scan(
    scan: Annotated[Path, typer.Argument(help="A T1-weighted scan: NIfTI, MGZ, or a folder of one DICOM series.")],
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="Folder for the page, the JSON and the registered scan.")],
    age: Annotated[float | None, typer.Option(help="Age at the scan in years.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="model.json of the volume baseline, for percentiles.")] = None,
) -> None:
    """Predict one scan: probabilities, hippocampal volumes with percentiles, the registration picture, one page."""
    from elr_mri.onescan import predict_scan as run

    told = run(scan, model_dir=model, age_years=age, out_dir=out, baseline_path=baseline)
    shares = ", ".join(f"{name} {share:.2f}" for name, share in told["probabilities"].items())
    print(f"{scan}: {shares}; quality control: {told['status']}; the page: {out / 'report.html'}")


@app.command(epilog="Example: `elr-mri doctor --config config/adni_nacc.yaml`")
def doctor(config_: Annotated[str, typer.Option("--config", help="The study's YAML file.")]) -> None:
    """Say before a run what was found, what is missing and where to get it, and what the run will take."""
    from elr_mri.doctor.page import doctor as run

    run(config_)


def main() -> None:
    """Run the command line; turn bad input into one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text
        stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BadInput as problem:
        print(f"elr-mri: {problem}", file=sys.stderr)
        sys.exit(2)
