"""What should the network see: the affine scan, the warped one, or that with the log-Jacobian? On phantoms and real brains.

python benchmarks/network_input.py phantom --results results --work DIR     a finished study (config/config.yaml)
python benchmarks/network_input.py real --brains DIR --work DIR             brains with manual labels (*_T1.nii.gz, *_labels.nii.gz)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.config import Register
from elr_mri.imaging import register
from elr_mri.imaging.grids import pull
from elr_mri.imaging.template import brain_template, study_grid
from elr_mri.imaging.transforms import read_affine, read_warp
from elr_mri.provenance import read_json, sidecar, write_json

SPACES = ("affine", "warped", "warped-jacobian")


def add_warped(results: Path, work: Path) -> None:
    """Copy a study's `register` folder to `work` and add the warped images from the transforms that it holds.

    The same as `register.write_warped: true`, without registering again: brain, bias field and white level are
    computed anew from the stored mask, affine and warp.
    """
    for folder in sorted((results / "imaging" / "register").iterdir()):
        qc = folder / f"{folder.name}_qc.json"
        if not qc.is_file() or read_json(qc)["status"] == "fail":
            continue
        copied = work / "register" / folder.name
        if not (copied / qc.name).is_file():
            _add_warped(folder, copied, results / "imaging" / "convert" / folder.name)
            print(folder.name, flush=True)


def _add_warped(folder: Path, copied: Path, converted: Path) -> None:
    told = read_json(folder / f"{folder.name}_qc.json")
    files = {name: folder / file for name, file in told["files"].items()}
    made = read_json(sidecar(files["affine_image"]))
    made["settings"].pop("write_syn", None)
    settings = Register.model_validate({**made["settings"], "write_warped": True})
    image, mask = nib.load(converted / f"{folder.name}_T1w.nii.gz"), nib.load(files["mask"])
    template, matrix, warp = (
        brain_template(settings.template),
        read_affine(files["affine"]),
        read_warp(files["warp"]),
    )
    volume, inside = np.asarray(image.dataobj, dtype=np.float32), np.asarray(mask.dataobj) > 0
    volume = np.clip(volume, 0, np.percentile(volume[::2, ::2, ::2], 99.9))
    brain = np.where(inside, register._unbiased(volume, image.affine, inside, settings), 0)
    brain = brain / register.white_level(template, brain, image.affine, matrix)
    found = register.Registered(np.clip(brain, 0, register.MAX_INTENSITY), inside, image.affine, matrix, warp)
    grid = study_grid(settings.spacing_mm)
    affine_image = pull(found.brain, found.affine, grid, matrix)
    gap = np.abs(affine_image - np.asarray(nib.load(files["affine_image"]).dataobj)).mean()
    if gap > 0.01:
        raise RuntimeError(f"{folder.name}: brain not reproduced, mean difference {gap:.4f} of white matter")
    names = register.outputs(folder.name, settings)
    copied.mkdir(parents=True, exist_ok=True)
    register._save(copied / names["affine_image"], affine_image, grid.affine)
    register._save(copied / names["warped_image"], register.warped(found, settings), grid.affine)
    log_jacobian = register.log_jacobian(warp, template, settings)
    register._save(copied / names["log_jacobian"], log_jacobian, grid.affine)
    write_json(sidecar(copied / names["affine_image"]), {**made, "settings": settings.model_dump(mode="json")})
    write_json(copied / f"{folder.name}_qc.json", {**told, "files": names})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("phantom", "real"))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--brains", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    told = parser.parse_args()
    add_warped(told.results, told.work)


if __name__ == "__main__":
    main()
