"""In the workflow, too, added subjects move nobody: the ledger outlives the outputs that Snakemake deletes."""

import pandas as pd
from studies import run

TARGET = "results/scans/demographics/demographics.tsv"
STUDY = {"cohorts": [{"name": "ADNI", "format": "tsv", "path": "scans.tsv"}]}


def write_download(folder, n_subjects: int) -> None:
    """A plain table of subjects with one image each; nothing before `convert` looks into an image."""
    rows = [
        {
            "image_path": f"{i}.nii",
            "subject_id": f"S{i:03d}",
            "session_id": "ses-M000",
            "age_years": 60 + i % 30,
            "sex": "FM"[i % 2],
            "diagnosis": ("CN", "MCI", "AD")[i % 3],
        }
        for i in range(n_subjects)
    ]
    for i in range(n_subjects):
        (folder / f"{i}.nii").write_text(f"image {i}")
    pd.DataFrame(rows).to_csv(folder / "scans.tsv", sep="\t", index=False)


def test_added_subjects_move_nobody(tmp_path):
    told = []
    for n_subjects in (40, 55):
        write_download(tmp_path, n_subjects)
        finished = run(tmp_path, STUDY, TARGET)
        assert finished.returncode == 0, finished.stdout[-4000:]
        told.append(pd.read_csv(tmp_path / "results" / "scans" / "split" / "splits.tsv", sep="\t"))
    assert "40 subjects keep their earlier split, 15 are drawn now" in finished.stdout
    before, after = (table.set_index("subject_id") for table in told)
    assert len(after) == 55 and after.loc[before.index].equals(before)
    published = {**STUDY, "split": {"published": {"train": "train.tsv"}}}
    (tmp_path / "train.tsv").write_text("participant_id,session_id,diagnosis\nsub-ADNIS001,ses-M00,MCI\n")
    finished = run(tmp_path, published, TARGET)
    assert finished.returncode == 0 and "54 scans take no part" in finished.stdout, finished.stdout[-4000:]
