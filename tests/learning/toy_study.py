"""A small packed study: noise "brains" whose class is how bright a cube in them is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.imaging.packed import CACHE_VERSION, INDEX, digest_row
from elr_mri.scans.table import CLASSES, SCANS, SPLIT

SHAPE = (38, 40, 37)


@dataclass(frozen=True)
class Study:
    """Paths of a packed study."""

    cache: Path
    scans: Path
    splits: Path

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        return self.cache, self.scans, self.splits


def write_study(
    folder: Path, n_subjects: int = 18, seed: int = 0, *, channels: int = 1, packed_order: np.ndarray | None = None
) -> Study:
    """Subject i has class i mod 3; in every third of the subjects the first goes to validation, the second to test.

    A second channel is noise but for the class's cube; `packed_order` is that of the cache's rows.
    """
    rng = np.random.default_rng(seed)
    volumes = rng.normal(120, 12, size=(n_subjects, *SHAPE))
    volumes[:, :4] = 0  # background that never varies
    scans, splits, names = [], [], []
    for i in range(n_subjects):
        volumes[i, 8:30, 8:30, 8:30] += 30 * (i % 3)
        subject, cohort = f"sub-TOY{i:03d}", "TOY" if i < n_subjects - 3 else "FAR"
        scans.append(
            {
                "scan_id": f"{subject}_ses-M000",
                "cohort": cohort,
                "subject_id": subject,
                "session_id": "ses-M000",
                "months": 0,
                "age_years": 60 + i,
                "diagnosis": CLASSES[i % 3],
                "image_path": f"{subject}.nii.gz",
            }
        )
        split = "external" if cohort == "FAR" else {0: "val", 1: "test"}.get(i // 3, "train")
        splits.append({"cohort": cohort, "subject_id": subject, "split": split, "fold": 0})
        names.append(f"{subject}_ses-M000")
    for rows, schema, name in ((scans, SCANS, "scans.tsv"), (splits, SPLIT, "splits.tsv")):
        frame = pd.DataFrame(rows)
        schema.write(frame.reindex(columns=[c.name for c in schema.columns]), folder / name)
    cache = folder / "pack"
    cache.mkdir()
    if channels == 2:
        second = rng.normal(128, 12, size=(n_subjects, *SHAPE))
        second[:, 8:30, 8:30, 8:30] += 30 * (np.arange(n_subjects) % 3)[:, None, None, None]
        volumes = np.stack([volumes, second], axis=1)
    order = np.arange(n_subjects) if packed_order is None else packed_order
    stored = volumes.clip(0, 255).astype(np.uint8)[order]
    np.save(cache / "volumes.npy", stored)
    index = {"scan_id": np.array(names)[order], "sha256": [digest_row(row) for row in stored], "source": "toy"}
    INDEX.write(pd.DataFrame(index).reset_index(names="row"), cache / "index.tsv")
    meta = {
        "version": CACHE_VERSION,
        "channels": ["T1w", "log_jacobian"][:channels],
        "template": "toy",
        "affine": np.diag([3.0, 3, 3, 1]).tolist(),
        "spacing_mm": 3.0,
        "shape": list(SHAPE),
        "dtype": "uint8",
        "space": "affine",
        "intensity": {"low": 0, "high": 255},
    }
    (cache / "meta.json").write_text(json.dumps(meta))
    return Study(cache, folder / "scans.tsv", folder / "splits.tsv")
