"""`phantom`: write the whole synthetic study, with the truth in a folder of its own that the pipeline never reads."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri import provenance
from elr_mri.config import Phantom
from elr_mri.errors import BadInput
from elr_mri.phantom import adni, heads, nacc
from elr_mri.phantom.anatomy import Anatomy
from elr_mri.phantom.scanner import Warp, carried_labels, render
from elr_mri.phantom.subjects import Subject, Visit, draw_subjects
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["phantom"]
_anatomies: list[Anatomy] = []


def phantom(settings: Phantom, out_dir: Path | str) -> None:
    """Write `ADNI/`, `NACC/` and `truth/` into a folder.

    The truth is `truth/visits.tsv` (every visit: severity, true and given label, and for scans the file and the true
    volumes in mm3) and `truth/warps/<cohort>_<id>_M<months>.npz` (see `write_warp`). An interrupted run continues;
    what another phantom study left in the folder is removed.

    Raises
    ------
    BadInput
        Where the folder holds an ADNI, NACC or truth that no phantom study made: a real download, perhaps.
    """
    with provenance.alone(Path(out_dir) / "study.json"):
        _phantom(settings, Path(out_dir))


def _phantom(settings: Phantom, out_dir: Path) -> None:
    """`phantom`, by itself in `out_dir`."""
    marker = out_dir / "study.json"
    if provenance.is_current(marker, step="phantom", version=VERSION, inputs=_inputs(settings), settings=settings):
        print(f"phantom: {out_dir} is up to date")
        return
    _claim(out_dir, settings)
    subjects = draw_subjects(settings)
    jobs = [(settings, subject, visit, out_dir) for subject in subjects for visit in subject.visits if visit.scanned]
    anatomies = [heads.load(source) for source in settings.anatomies]
    rows = []
    with ProcessPoolExecutor(settings.workers, initializer=_adopt, initargs=(anatomies,)) as pool:
        for row in pool.map(_scan, jobs, chunksize=4):
            rows.append(row)
            if len(rows) % 20 == 0 or len(rows) == len(jobs):
                print(f"phantom: {len(rows)} of {len(jobs)} scans", flush=True)
    adni.write_tables(out_dir / "ADNI", [s for s in subjects if s.cohort == "ADNI"])
    if settings.n_external:
        nacc.write_tables(out_dir / "NACC", [s for s in subjects if s.cohort == "NACC"])
    truth = pd.DataFrame(list(_visit_rows(subjects))).merge(
        pd.DataFrame(rows), on=["cohort", "subject", "months"], how="left", validate="1:1"
    )
    with provenance.atomic(out_dir / "truth" / "visits.tsv") as draft:
        truth.to_csv(draft, sep="\t", index=False, float_format="%.6g")
    provenance.write_json(marker, {"subjects": len(subjects), "scans": len(jobs)})
    provenance.record(marker, step="phantom", version=VERSION, inputs=_inputs(settings), settings=settings)
    print(f"phantom: {len(subjects)} subjects, {len(jobs)} scans in {out_dir}")


def _claim(out_dir: Path, settings: Phantom) -> None:
    """Make the folder this study's: keep what it has written before, remove another phantom's, and nothing else."""
    claim = {
        "version": VERSION,
        "inputs": _inputs(settings),
        "settings": settings.model_dump(mode="json", exclude={"workers"}),
    }
    begun = out_dir / "truth" / "begun.json"
    if begun.exists() and provenance.read_json(begun) == claim:
        return
    if not begun.exists() and not (out_dir / "study.json").exists():
        strange = [name for name in ("ADNI", "NACC", "truth") if (out_dir / name).exists()]
        if strange:
            raise BadInput(
                expected="a new folder, or one of an earlier phantom study",
                got=f"one with {' and '.join(strange)} in it that no phantom study made",
                where=str(out_dir),
                fix="Give another folder: what lies there would be removed.",
            )
    for folder in ("ADNI", "NACC", "truth/labels", "truth/scans", "truth/warps"):
        shutil.rmtree(out_dir / folder, ignore_errors=True)
    (out_dir / "truth" / "visits.tsv").unlink(missing_ok=True)
    # begun.json is replaced, never away: a kill leaves a folder that is known for a phantom's
    provenance.write_json(begun, claim)


def _inputs(settings: Phantom) -> dict[str, str]:
    """Digests of the head images that phantoms are made from."""
    return {str(path): provenance.digest_file(path) for source in settings.anatomies for path in heads.files(source)}


def _adopt(anatomies: list[Anatomy]) -> None:
    """Give a worker process the anatomies, once, and let it end with the process that started it, also where that is killed."""
    _anatomies[:] = anatomies
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _scan(job: tuple[Phantom, Subject, Visit, Path]) -> dict[str, object]:
    """Make one scan and its truth, unless that is done; returns its row of the truth table."""
    settings, subject, visit, out_dir = job
    name = adni.ptid(subject) if subject.cohort == "ADNI" else nacc.naccid(subject)
    stem = f"{subject.cohort}_{name}_M{visit.months:03d}"
    done = out_dir / "truth" / "scans" / f"{stem}.json"
    if done.exists():
        return provenance.read_json(done)
    anatomy = _anatomies[subject.anatomy]
    image, warp, volumes = render(settings, subject, visit, anatomy)
    broken = subject.index < settings.n_broken and visit.months == 0
    if broken:
        image = _noise_like(image, seed=[settings.seed, subject.index, 4])
    write_image = adni.write_image if subject.cohort == "ADNI" else nacc.write_image
    path = write_image(out_dir / subject.cohort, subject, visit, image)
    write_warp(out_dir / "truth" / "warps" / f"{stem}.npz", warp, anatomy)
    if anatomy.labels is not None:
        with provenance.atomic(out_dir / "truth" / "labels" / f"{stem}_dseg.nii.gz") as draft:
            nib.save(carried_labels(warp, anatomy, image), draft)
    row = {
        "cohort": subject.cohort,
        "subject": name,
        "months": visit.months,
        "image": Path(path).relative_to(out_dir).as_posix(),
        "broken": broken,
        "anatomy": anatomy.name,
        **{f"{region}_mm3": volume for region, volume in volumes.items()},
    }
    provenance.write_json(done, row)
    return row


def _noise_like(image: nib.Nifti1Image, seed: list[int]) -> nib.Nifti1Image:
    """A scan that went wrong: noise and nothing else, on the same grid."""
    noise = np.random.default_rng(seed).rayleigh(300.0, image.shape)
    return nib.Nifti1Image(noise.astype(np.int16), image.affine, image.header)


def _visit_rows(subjects: list[Subject]) -> Iterator[dict[str, object]]:
    """What is true about every visit, scanned or not."""
    for subject in subjects:
        for visit in subject.visits:
            yield {
                "cohort": subject.cohort,
                "subject": adni.ptid(subject) if subject.cohort == "ADNI" else nacc.naccid(subject),
                "months": visit.months,
                "age_years": visit.age_years,
                "sex": subject.sex,
                "severity": visit.severity,
                "true_label": visit.true_label,
                "given_label": visit.given_label,
                "scanned": visit.scanned,
            }


def write_warp(path: Path, warp: Warp, anatomy: Anatomy) -> None:
    """Write the true warp of a scan.

    `pose` (4, 4) takes scanner mm (RAS+) to p in the anatomy's mm; the anatomy is then read at
    p + pull(p), `pull` (X, Y, Z, 3) in mm on an axis-aligned grid of `spacing_mm` from `origin_mm`.
    """
    with provenance.atomic(path) as draft:
        np.savez(
            draft,
            pose=warp.pose,
            pull=warp.pull.astype(np.float16),
            origin_mm=anatomy.grid.origin_mm,
            spacing_mm=anatomy.grid.spacing_mm,
        )
