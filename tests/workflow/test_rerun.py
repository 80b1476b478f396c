"""What runs again after a change: one scan's batch, one stage and what follows; never what does not depend on it."""

import re
import shutil
from pathlib import Path

import pytest
from studies import MINI, ROOT, run

from elr_mri.scans.batches import batch_of
from elr_mri.stages import VERSIONS


def jobs(finished) -> list[tuple[str, str]]:
    """Rule and batch (or blank) of every job that a run of Snakemake started, or would start."""
    found = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)*)", finished.stdout, re.M)
    batches = [re.search(r"wildcards: batch=(\w+)", told) for _, told in found]
    return [(rule, batch[1] if batch else "") for (rule, _), batch in zip(found, batches)]


def write_download(folder: Path, n_subjects: int) -> None:
    """A plain table of subjects with one image each, which is no image: that is a result of `convert`, and quickly told."""
    rows = ["image_path\tsubject_id\tsession_id\tage_years\tsex\tdiagnosis"]
    for i in range(n_subjects):
        if not (folder / f"{i}.nii").exists():  # whose time must stay
            (folder / f"{i}.nii").write_text(f"image {i}")
        rows.append(f"{i}.nii\tS{i:03d}\tses-M000\t{60 + i}\t{'FM'[i % 2]}\t{('CN', 'MCI', 'AD')[i % 3]}")
    (folder / "scans.tsv").write_text("\n".join(rows) + "\n")


def test_an_added_scan_runs_its_own_batch_again_and_no_other(tmp_path):
    study = {"batches": 3, "cohorts": [{"name": "ADNI", "format": "tsv", "path": "scans.tsv"}]}
    targets = ["results/imaging/review/review.tsv", *(f"results/imaging/measure/batches/00{b}.tsv" for b in range(3))]
    write_download(tmp_path, 9)
    first = run(tmp_path, study, "results/imaging/review/review.tsv")
    assert first.returncode == 0, first.stdout[-4000:]
    assert {job for job in jobs(first) if job[1]} == {(s, f"00{b}") for s in ("convert", "register") for b in range(3)}
    measured = run(tmp_path, study, *targets)
    assert measured.returncode == 0, measured.stdout[-4000:]
    write_download(tmp_path, 10)
    assert run(tmp_path, study, "results/scans/ingest/scans.tsv").returncode == 0
    mine = batch_of("sub-ADNIS009", 3)
    planned = run(tmp_path, study, *targets, "--dry-run")
    assert sorted(jobs(planned)) == sorted([*((s, mine) for s in ("convert", "register", "measure")), ("review", "")])
    finished = run(tmp_path, study, *targets)
    assert finished.returncode == 0 and sorted(jobs(finished)) == sorted(jobs(planned)), finished.stdout[-4000:]
    told = (tmp_path / "results" / "logs" / "convert" / f"{mine}.log").read_text()
    assert "sub-ADNIS009_ses-M000: fail" in told
    again = run(tmp_path, study, *targets)
    assert "Nothing to be done" in again.stdout


#: Stage -> what must run again after a new version of it, and what must not.
AFTER = {
    "evaluate": ({"evaluate", "report"}, {"baseline", "fuse", "train", "predict", "pack"}),
    "baseline": ({"baseline", "fuse", "evaluate", "report"}, {"train", "predict", "explain", "pack", "measure"}),
    "predict": ({"predict", "fuse", "evaluate", "report"}, {"train", "explain", "pack", "baseline"}),
    "train": ({"train", "predict", "explain", "evaluate", "report"}, {"pack", "baseline", "measure", "shift"}),
    "measure": ({"measure", "pack", "baseline", "train", "report"}, {"convert", "register", "review", "audit"}),
    "register": ({"register", "measure", "review", "pack", "train"}, {"ingest", "split", "convert", "audit"}),
    "report": ({"report"}, set(VERSIONS) - {"report"}),
}


@pytest.mark.xdist_group("mini")
@pytest.mark.parametrize("stage", AFTER)
def test_a_new_version_of_a_stage_runs_it_and_what_follows_again(mini, tmp_path, stage):
    """On a copy of the code, in which one number is another."""
    for name in ("Snakefile", "workflow", "profiles", "envs", "elr_mri"):
        way = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        way(ROOT / name, tmp_path / name)
    unchanged = run(mini, MINI, "--dry-run", code=tmp_path)
    assert "Nothing to be done" in unchanged.stdout, unchanged.stdout[-4000:]
    path, number = tmp_path / "elr_mri" / "stages.py", VERSIONS[stage]
    path.write_text(path.read_text().replace(f'"{stage}": {number},', f'"{stage}": {number + 1},', 1))
    planned = {rule for rule, _ in jobs(run(mini, MINI, "--dry-run", code=tmp_path))}
    again, stands = AFTER[stage]
    assert again <= planned and planned.isdisjoint(stands | {"phantom"}), planned
