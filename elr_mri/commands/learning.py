"""Commands of zone `learning`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from elr_mri import config
from elr_mri.commands import app
from elr_mri.options import DEFAULTS, Config, ModelFolder, Output, Packed, Scans, Splits


@app.command(
    epilog="Example: `elr-mri train --packed results/imaging/pack --scans scans.tsv --splits splits.tsv --model wide-age-elr --config config/config.yaml --output results/learning/wide-age-elr/seed-0`"
)
def train(
    packed: Packed,
    scans: Scans,
    splits: Splits,
    model: Annotated[str, typer.Option(help="Which of `train.models` or of the ablations' variants in the config.")],
    config_: Config,
    output: Output,
    seed: int = 0,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A table of given diagnoses that take the place of the scan table's, from `elr-mri lab noise`."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option(help="Start anew where a checkpoint of other settings or data is found.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="The scans are phantoms; the model will say so.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="So many processes of this machine train it together, each on a GPU of its own.")
    ] = 1,
) -> None:
    """Train one network; killed at any moment, the same command continues. Under torchrun, over several machines, too."""
    from elr_mri.learning.distributed import launch, launched
    from elr_mri.learning.slots import slots
    from elr_mri.learning.train import train as run

    settings = config.training(config_)
    if processes > 1 and not launched():
        with slots(settings.of(model).device, processes) as gpus:
            launch(processes, gpus)
        return
    run(
        packed,
        scans,
        splits,
        settings,
        slug=model,
        seed=seed,
        out_dir=output,
        labels_path=labels,
        restart_if_changed=restart,
        synthetic=synthetic,
    )


@app.command(
    epilog="Example: `elr-mri predict --model results/learning/wide-age-elr/seed-0 --packed results/imaging/pack --scans scans.tsv --splits splits.tsv --output predictions.tsv`"
)
def predict(
    model: Annotated[
        list[Path], typer.Option(help="A model folder; given for several seeds of a model, the mean of what they say.")
    ],
    packed: Packed,
    scans: Scans,
    splits: Splits,
    output: Output,
    config_: Config = DEFAULTS,
) -> None:
    """Predict every packed scan with a trained model, or with several seeds of it together."""
    from elr_mri.learning.predict import predict as run

    run(model, packed, scans, splits, config.section(config.Predict, "predict", config_), output=output)


@app.command(
    epilog="Example: `elr-mri explain --model results/learning/wide-age-elr/seed-0 --packed results/imaging/pack --scans scans.tsv --splits splits.tsv --output results/learning/explain/wide-age-elr`"
)
def explain(
    model: ModelFolder,
    packed: Packed,
    scans: Scans,
    splits: Splits,
    output: Output,
    regions: Annotated[Path | None, typer.Option(help="The folder that `regions` wrote.")] = None,
    permuted: Annotated[
        Path | None, typer.Option(help="A model folder of the same make, trained on labels drawn at random.")
    ] = None,
    config_: Config = DEFAULTS,
) -> None:
    """Map which voxels the predictions depend on, aggregated and for one example of each class; sum by region; check the maps."""
    from elr_mri.learning.explain import explain as run

    settings = config.section(config.Explain, "explain", config_)
    run(
        model,
        packed,
        scans,
        splits,
        settings,
        output_dir=output,
        regions_dir=regions,
        permuted_dir=permuted,
    )


@app.command(
    "import-weights",
    epilog="Example: `elr-mri import-weights model_low_loss.pth.tar --output results/learning/reference/seed-0`",
)
def import_weights(
    file: Annotated[Path, typer.Argument(help="A checkpoint of the released code, .pth.tar.")],
    output: Output,
    age: Annotated[
        Literal["auto", "sinusoid", "none"],
        typer.Option(help="Whether the model looks at age; auto: where its age encoder ever learnt."),
    ] = "auto",
) -> None:
    """Make a model folder of the weights that Liu et al. published."""
    from elr_mri.learning.import_weights import import_weights as run

    run(file, age=age, output=output)


@app.command(epilog="Example: `elr-mri export --model results/learning/wide-age-elr/seed-0 --output wide-age-elr.onnx`")
def export(
    model: ModelFolder,
    output: Output,
    format_: Annotated[
        Literal["onnx", "bundle"], typer.Option("--format", help="An ONNX file, or a MONAI bundle (a folder).")
    ] = "onnx",
) -> None:
    """Write a model for other software, once the file says the same as the model."""
    from elr_mri.learning.export import export as run

    run(model, form=format_, output=output)
