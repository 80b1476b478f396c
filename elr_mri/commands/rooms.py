"""Commands that compose the zones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elr_mri.commands import app
from elr_mri.options import ModelFolder


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
    own: Annotated[
        bool, typer.Option("--own", help="The model is yours: files that its model.json names may be read.")
    ] = False,
) -> None:
    """Predict one scan: probabilities, hippocampal volumes with percentiles, the registration picture, one page."""
    from elr_mri.onescan import predict_scan as run

    told = run(scan, model_dir=model, age_years=age, out_dir=out, baseline_path=baseline, own=own)
    shares = ", ".join(f"{name} {share:.2f}" for name, share in told["probabilities"].items())
    print(f"{scan}: {shares}; quality control: {told['status']}; the page: {out / 'report.html'}")


@app.command(epilog="Example: `elr-mri doctor --config config/adni_nacc.yaml`")
def doctor(config_: Annotated[str, typer.Option("--config", help="The study's YAML file.")]) -> None:
    """Say before a run what was found, what is missing and where to get it, and what the run will take."""
    from elr_mri.doctor.page import doctor as run

    run(config_)
