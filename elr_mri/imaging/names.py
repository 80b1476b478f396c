"""The names of a registered scan's files, which all carry the template's id, and how readers find them.

`space-<id>` stands where the file lies in the template's space or tells of the registration to it, `from-…_to-<id>` in
transforms (BIDS derivatives), `tpl-<id>` where the file lies in the scan's own space, or is a table, and was made with
that template. A scan has one registration: whoever registers it to another template first removes what it had, so that
the one verdict in its folder says which files count.
"""

from __future__ import annotations

import glob
from pathlib import Path

from elr_mri.errors import BadInput
from elr_mri.provenance import read_json, sidecar


def registered(scan_id: str, template_id: str, *, warped: bool = False) -> dict[str, str]:
    """What `register` writes of a scan; the deformed scan and the log-Jacobian only if `warped`."""
    stem = f"{scan_id}_space-{template_id}"
    files = {
        "affine_image": f"{stem}_T1w.nii.gz",
        "mask": f"{scan_id}_tpl-{template_id}_desc-brain_mask.nii.gz",
        "affine": f"{scan_id}_from-T1w_to-{template_id}_affine.mat",
        "warp": f"{scan_id}_from-T1w_to-{template_id}_warp.nii.gz",
        "inverse_warp": f"{scan_id}_from-{template_id}_to-T1w_warp.nii.gz",
        "qc": f"{stem}_qc.json",
        "picture": f"{stem}_qc.png",
    }
    if warped:
        files["warped_image"] = f"{stem}_desc-warped_T1w.nii.gz"
        files["log_jacobian"] = f"{stem}_desc-warped_logjacobian.nii.gz"
    return files


def measured(scan_id: str, template_id: str) -> dict[str, str]:
    """What `measure` writes of a scan."""
    stem = f"{scan_id}_tpl-{template_id}"
    return {"volumes": f"{stem}_volumes.tsv", "labels": f"{stem}_dseg.nii.gz"}


def given(scan_id: str) -> str:
    """The volumes of a scan that came from another program or a table: no template is in them."""
    return f"{scan_id}_volumes.tsv"


def volumes_path(folder: Path | str, scan_id: str) -> Path:
    """Where a scan's volumes lie in its folder, measured or given; raises `BadInput` where there are none, or two."""
    stem = glob.escape(scan_id)
    found = sorted([*Path(folder).glob(f"{stem}_tpl-*_volumes.tsv"), *Path(folder).glob(f"{stem}_volumes.tsv")])
    if len(found) != 1:
        raise BadInput(
            expected="one table of volumes",
            got=", ".join(path.name for path in found) or "none",
            where=str(folder),
            fix="Remove the folder and run `elr-mri measure` again.",
        )
    return found[0]


def verdict_path(folder: Path | str, scan_id: str) -> Path | None:
    """Where the verdict on a scan's registration lies in the scan's folder; None where it was not registered.

    Raises
    ------
    BadInput
        Where registrations to two templates lie there: neither can be known to be the study's.
    """
    found = sorted(Path(folder).glob(f"{glob.escape(scan_id)}_space-*_qc.json"))
    if len(found) > 1:
        raise BadInput(
            expected="a scan's registration to one template",
            got=", ".join(path.name for path in found),
            where=str(folder),
            fix="Remove the folder and run `elr-mri register` again.",
        )
    return found[0] if found else None


def read_verdict(folder: Path | str, scan_id: str) -> dict:
    """What `register` told of a scan: status, reasons, numbers, template and the names of its files."""
    path = verdict_path(folder, scan_id)
    if path is None:
        raise BadInput(
            expected="a registered scan",
            got=f"no {scan_id}_space-*_qc.json",
            where=str(folder),
            fix="Run `elr-mri register`.",
        )
    return read_json(path)


def forget_others(folder: Path | str, scan_id: str, template_id: str) -> None:
    """Remove what earlier runs wrote of a scan with other templates than `template_id`; the verdicts go first."""
    folder, any_id = Path(folder), "\0"
    patterns = [registered(scan_id, any_id)["qc"], measured(scan_id, any_id)["volumes"]]
    for pattern in patterns:
        before, after = pattern.split(any_id)
        for path in folder.glob(f"{glob.escape(before)}*{after}"):
            other = path.name.removeprefix(before).removesuffix(after)
            if other != template_id:
                path.unlink()
                names = registered(scan_id, other, warped=True) if pattern == patterns[0] else measured(scan_id, other)
                for name in names.values():
                    for gone in (folder / name, sidecar(folder / name)):
                        gone.unlink(missing_ok=True)
