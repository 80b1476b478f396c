"""A CAPS folder of clinica: outputs of `t1-linear`, scans that already lie in MNI space.

`subjects/sub-*/ses-*/t1_linear/*_space-MNI152NLin2009cSym*_T1w.nii.gz`. They are not registered again (`register` resamples
them to the study's grid); a space that is not known to be MNI152 is excluded. What is known of subjects stands in
`participants.tsv` and `*_sessions.tsv` of the folder itself or of the BIDS folder that the cohort's `tables` names. Of a
session's two versions the whole one is kept before the cropped one (`desc-Crop`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.scans import bids
from elr_mri.scans.cohort import Found, blank_images, mark, session_key
from elr_mri.scans.download import files_under
from elr_mri.scans.imagepath import MNI_SPACES, space_of


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read a CAPS folder; see `cohort.Found`. `settings` is not needed: a session is its own visit."""
    del settings
    files, tables = files_under(cohort.path), Path(cohort.tables or cohort.path)
    images = list_images(files, Path(cohort.path))
    return bids.found(images, tables, files_under(tables), cohort, order=["rank_crop"])


def list_images(files: Sequence[Path], root: Path) -> pd.DataFrame:
    """Every NIfTI image below `subjects/`; all but the T1w of `t1_linear` in a known space are marked with the reason."""
    rows = []
    for path in files:
        parts = path.relative_to(root).parts
        if parts[0] != "subjects" or len(parts) < 4 or not path.name.lower().endswith((".nii", ".nii.gz")):
            continue
        linear = path.parent.name == "t1_linear" and "_T1w.nii" in path.name
        row = {
            "image_path": str(path),
            "participant": parts[1],
            "session": session_key(parts[2]),
            "rank_crop": "_desc-Crop" in path.name,
        }
        rows.append(row | {"reason": None if linear else "not-t1"})
    images = blank_images(rows)
    if images.empty:
        return images
    spaces = images["image_path"].map(space_of)
    mark(images, ~spaces.isin(MNI_SPACES), "unknown-space", "space " + spaces.fillna("not named"))
    return images[["image_path", "image_uid", "participant", "session", "rank_crop", "reason", "detail"]]
