"""The authors' published weights as a model folder, ready for `predict`, `explain` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from elr_mri.errors import BadInput
from elr_mri.imaging.template import study_grid
from elr_mri.learning.card import write_card
from elr_mri.learning.checkpoint import Model, save_model
from elr_mri.learning.reference import never_learnt_age, read_reference
from elr_mri.provenance import digest_file, record

#: Of what the command writes.
VERSION = 1

#: Voxels of the released preprocessing, mm: on MNI's box a grid of 121×145×121.
SPACING_MM = 1.5

LICENCE = (
    "The code is MIT. The weights were imported: their licence is their authors' (the released code that they come "
    "with is AGPL-3.0), and the data use terms of the cohorts that they were trained on apply (ADNI for the published ones)."
)


def import_weights(path: Path | str, *, age: Literal["auto", "sinusoid", "none"] = "auto", output: Path | str) -> None:
    """Write a model folder from a released checkpoint.

    Parameters
    ----------
    path : path
        A `.pth.tar` of the released training loop, or its state dict alone.
    age : "auto", "sinusoid" or "none"
        The released network holds an age encoder also where it was trained without age; `auto` keeps one that learnt.
    output : path
        Receives model.safetensors, model.json and model.md.
    """
    network, weights = read_reference(path)
    if age == "auto":
        age = "none" if never_learnt_age(weights) else network["age"]
    if age == "sinusoid" and network["age"] == "none":
        raise BadInput(
            expected="an age encoder",
            got="none in the file",
            where=str(path),
            fix="Leave out --age, or say --age none.",
        )
    network["age"] = age
    grid = study_grid(SPACING_MM)
    model = Model(network, "scan", grid.shape)
    model.network.load_state_dict({k: v for k, v in weights.items() if age != "none" or not k.startswith("age.")})
    digest = digest_file(path)
    facts = {
        "slug": f"reference-x{network['width']}" + ("" if age == "none" else "-age"),
        "seed": 0,
        "network": network,
        # What is not told here (space, template, intensities) is not checked of a cache: the released code states it of none.
        "preprocessing": {
            "standardise": "scan",
            "channels": ["T1w"],
            "shape": list(grid.shape),
            "affine": grid.affine.tolist(),
            "spacing_mm": SPACING_MM,
        },
        "imported": {"file": Path(path).name, "sha256": digest, "layout": "NYUMedML/CNN_design_for_AD"},
        "trained_on": None,
        "licence": LICENCE,
    }
    save_model(output, model, facts)
    write_card(output)
    record(
        Path(output) / "model.safetensors",
        step="import-weights",
        version=VERSION,
        inputs={"checkpoint": digest},
        settings={"age": age},
    )
