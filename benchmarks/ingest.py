"""How long `ingest` takes on the downloads of a full study: the phantom's tables and trees, with images of one voxel.

    python benchmarks/ingest.py                    5,000 scans of both cohorts; prints seconds, peak memory, and whether
                                                   a second run wrote the same
    python benchmarks/ingest.py --cohort adni      5,000 scans of one

Limit (issue on cohorts): 60 s for 5,000 scans.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri import config
from elr_mri.phantom import adni, nacc
from elr_mri.phantom.subjects import draw_subjects
from elr_mri.provenance import digest_file
from elr_mri.scans.ingest import ingest

LIMIT_S = 60.0
COHORTS = {"adni": ("ADNI", "internal"), "nacc": ("NACC", "external")}


def write_downloads(root: Path, n_scans: int, names: list[str]) -> int:
    """Write the named downloads with at least `n_scans` scans, each of other bytes; returns how many."""
    settings = config.Phantom(
        n_subjects=n_scans, n_external=n_scans if names == ["NACC"] else n_scans // 4, visits_per_subject=3
    )
    scanned, subjects = 0, []
    for subject in sorted(draw_subjects(settings), key=lambda s: s.index * 7919 % 1009):
        if scanned >= n_scans:
            break
        if subject.cohort not in names:
            continue
        subjects.append(subject)
        for visit in subject.visits:
            if visit.scanned:
                image = nib.Nifti1Image(np.full((2, 2, 2), scanned, dtype=np.int16), np.eye(4))
                (adni if subject.cohort == "ADNI" else nacc).write_image(root / subject.cohort, subject, visit, image)
                scanned += 1
    for name in names:
        (adni if name == "ADNI" else nacc).write_tables(root / name, [s for s in subjects if s.cohort == name])
    return scanned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=5000)
    parser.add_argument("--cohort", choices=(*COHORTS, "both"), default="both")
    told = parser.parse_args()
    chosen = {f: COHORTS[f] for f in (COHORTS if told.cohort == "both" else [told.cohort])}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        n_scans = write_downloads(root, told.scans, [name for name, _ in chosen.values()])
        cohorts = [config.Cohort(name=n, format=f, path=str(root / n), role=r) for f, (n, r) in chosen.items()]
        digests = []
        for turn in ("first", "second"):
            began = time.perf_counter()
            ingest(cohorts, config.Ingest(), root / "out")
            seconds = time.perf_counter() - began
            digests.append([digest_file(p) for p in sorted((root / "out").glob("*.tsv"))])
            print(
                f"{turn} run: {n_scans} scans in {seconds:.1f} s, {seconds / LIMIT_S:.2f} of the limit of {LIMIT_S:g} s"
            )
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory {peak_mib:.0f} MiB; the two runs wrote the same: {digests[0] == digests[1]}")


if __name__ == "__main__":
    main()
