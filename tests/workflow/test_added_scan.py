"""In the workflow, too, an added scan is written behind the others: Snakemake neither deletes nor copies the cache."""

import nibabel as nib
import numpy as np
import pandas as pd
from studies import MINI, run

from elr_mri.imaging.packed import Cache
from elr_mri.imaging.template import head_template

TARGET = "results/imaging/pack/volumes.npy.json"
STUDY = {
    "batches": 1,
    "cohorts": [{"name": "ADNI", "format": "tsv", "path": "scans.tsv"}],
    "split": {"val_share": 0, "test_share": 0},
    "register": {**MINI["register"], "affine_spacing_mm": 6.0, "n4_spacing_mm": 8.0, "n4_iterations": [3]},
}


def write_download(folder, n_subjects: int) -> None:
    """The shipped head with noise, once for each subject; a subject's image is the same in every call."""
    head, rows = head_template(), []
    for i in range(n_subjects):
        rng = np.random.default_rng(i)
        image = 900 * np.abs(head.image[::3, ::3, ::3] + rng.normal(0, 0.02, head.image[::3, ::3, ::3].shape))
        affine = head.affine @ np.diag([3.0, 3, 3, 1])
        path = folder / f"{i}.nii.gz"
        if not path.exists():
            nib.save(nib.Nifti1Image(image.astype(np.float32), affine), path)
        told = {"subject_id": f"S{9 - i:03d}", "session_id": "ses-M000", "age_years": 70, "sex": "F"}
        rows.append({"image_path": path.name, **told, "diagnosis": ("CN", "MCI", "AD")[i % 3]})
    pd.DataFrame(rows).to_csv(folder / "scans.tsv", sep="\t", index=False)


def test_an_added_scan_leaves_the_other_rows_where_they_are(tmp_path):
    found = []
    for n_subjects in (3, 4):
        write_download(tmp_path, n_subjects)
        finished = run(tmp_path, STUDY, TARGET, cores=1)
        assert finished.returncode == 0, finished.stdout[-4000:]
        cache = Cache.read(tmp_path / "results" / "imaging" / "pack")
        cache.validate()
        told = (tmp_path / "results" / "imaging" / "pack" / "volumes.npy").stat()
        found.append((list(cache.index["scan_id"]), np.array(cache.volumes), told.st_ino, told.st_size))
    assert "pack: 3 rows stand, 1 are written behind them" in finished.stdout
    (names, rows, inode, size), (later_names, later_rows, later_inode, later_size) = found
    assert later_inode == inode and later_size == size + rows[0].nbytes
    assert later_names[:3] == names and later_names[3] < names[0]  # first in the scan table, last in the cache
    assert np.array_equal(later_rows[:3], rows)
    backups = [p for p in (tmp_path / ".snakemake").rglob("*") if "volumes.npy" in p.name and p.stat().st_size > 10**5]
    assert not backups
    again = run(tmp_path, STUDY, TARGET, cores=1)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
