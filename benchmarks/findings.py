"""Everything after predictions at the size of ADNI and NACC: how long each step takes, and what memory it needs.

    python benchmarks/findings.py                        5,000 scans, six networks
    python benchmarks/findings.py --scans 1000 --keep WORK

A study is drawn in a temporary folder, in the files that the earlier steps write: people, visits and about 100 regional volumes by
`elr_mri/phantom/roi_tables.py`, predictions of networks that err alike at a subject's visits, a cache at `--spacing-mm` (every scan the
template's brain at its own brightness), a verdict for every registration, saliency maps and their tables. Nothing of that is timed. Then the
commands of `workflow/rules/findings.smk` are run one after the other with their default settings, each a process of its own with one thread,
as the workflow's default profile gives it. The page is an in-house one, which shows all that there is.

Limit (issue on findings): 180 s on two cores for all of them. Steps that wait for no other could run side by side; the sum counts them one after the other.
Not in it: `explain`, which needs the networks, and `snakemake` itself (`benchmarks/workflow.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri import config, provenance
from elr_mri.findings.figures import read_anatomy
from elr_mri.imaging.given import COLUMNS
from elr_mri.imaging.labels import REGIONS, ROI_TABLE, TOTALS
from elr_mri.imaging.packed import CACHE_VERSION, INDEX, encode
from elr_mri.phantom.roi_tables import draw_table
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.demographics import DEMOGRAPHICS, count
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.saliency import AGGREGATE, ALL, LOBES, RANDOM, REST, SHARES, TRAINED
from elr_mri.scans.table import CLASSES, EXCLUSIONS, NOTES, SCANS, SPLIT, VISITS

LIMIT_S, MIB = 180.0, 1024.0
#: Subjects of each split for 5,000 scans; a subject has 1 to 7.
SUBJECTS = {"n_train": 520, "n_val": 100, "n_test": 96, "n_external": 600}
NETWORKS = ("alexnet", "resnet18", "wide", "wide-age", "wide-elr", "wide-age-elr")
EXPLAINED = "wide-age-elr"
#: FreeSurfer's names, in small letters, of the regions that have names of ours.
OURS = {name: ours for ours, names in COLUMNS["freesurfer"].items() for name in names}


def main() -> None:
    """Draw the study, run every step, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=5000)
    parser.add_argument("--spacing-mm", type=float, default=3.0, help="of the cache: 3 takes 1.4 GB, 1.5 eleven")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", default="", help="only these, by comma")
    parser.add_argument("--keep", type=Path, help="make the study here, or use the one that is here, and keep it")
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        draw(options.draw, options.scans, options.spacing_mm, options.seed)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.keep or Path(temporary)).resolve()
        if not (root / "results" / "drawn.json").is_file():
            # in a process of its own: a step would inherit the peak memory of this one
            subprocess.run([sys.executable, *sys.argv, "--draw", str(root / "results")], check=True)
        told = provenance.read_json(root / "results" / "drawn.json")
        print(f"{told['n_scans']} scans of {told['n_subjects']} subjects, {len(NETWORKS)} networks, {told['n_regions']} regions, cache at {told['spacing_mm']:g} mm")  # fmt: skip
        print(f"{'step':12s}{'seconds':>10s}{'processor':>11s}{'MiB':>8s}", flush=True)
        chosen = [name for name in options.steps.split(",") if name]
        rows = [run(name, words, root) for name, words in commands().items() if not chosen or name in chosen]
    clock, processor, memory = (np.array(column) for column in zip(*rows, strict=True))
    print(f"{'all':12s}{clock.sum():10.1f}{processor.sum():11.1f}{memory.max():8.0f}")
    print(f"{clock.sum() / LIMIT_S:.2f} of the limit of {LIMIT_S:.0f} s by the clock, {processor.sum() / LIMIT_S:.2f} by processor time")  # fmt: skip


def commands() -> dict[str, list[str]]:
    """The words of each step, as its rule has them, in the order of the workflow."""
    table, packed = "results/findings/tables", "results/imaging/pack"
    scans, splits = "results/scans/ingest/scans.tsv", "results/scans/split/splits.tsv"
    volumes, fused = (f"results/findings/{name}/predictions.tsv" for name in ("baseline", "fuse"))
    networks = {name: f"results/learning/{name}/seed-0" for name in NETWORKS}
    explained = f"{networks[EXPLAINED]}/predictions.tsv"
    models = [word for folder in networks.values() for word in ("--model", folder)]
    rois = f"{packed}/roi_volumes.tsv"
    return {
        "baseline": ["--rois", rois, "--scans", scans, "--splits", splits, "--output", "results/findings/baseline"],
        "fuse": ["--volumes", volumes, "--network", explained, "--output", "results/findings/fuse"],
        "evaluate": [volumes, *(f"{folder}/predictions.tsv" for folder in networks.values()), fused, "--output", "results/findings"],
        "subgroups": [volumes, explained, "--scans", scans, "--output", f"{table}/subgroups.tsv"],
        "progression": [volumes, explained, "--scans", scans, "--visits", "results/scans/ingest/visits.tsv", "--output", table],
        "shift": ["--scans", scans, "--splits", splits, "--packed", packed, "--output", f"{table}/shift.tsv"],
        "report": [
            "--tables", table, "--scans", scans, "--exclusions", "results/scans/ingest/exclusions.tsv", "--notes", "results/scans/ingest/notes.tsv",
            "--splits", splits, "--demographics", "results/scans/demographics/demographics.tsv", "--packed", packed,
            "--registered", "results/imaging/register", "--subgroups", f"{table}/subgroups.tsv", "--shift", f"{table}/shift.tsv",
            "--progression", table, *models, "--explained", f"results/learning/explain/{EXPLAINED}", "--baselines", "results/findings/baseline",
            "--fused", "results/findings/fuse", "--study", json.dumps(study()), "--config", '{"in_house": true}',
            "--figures", "results/findings/figures", "--output", "results/report.html",
        ],
    }  # fmt: skip


def study() -> dict:
    """The config of the study, as the report tells it."""
    networks = {name: {"network": name if "net" in name else "wide"} for name in NETWORKS}
    cohorts = [{"name": "ADNI", "format": "adni", "path": "ADNI"}, {"name": "NACC", "format": "nacc", "path": "NACC", "role": "external"}]  # fmt: skip
    return {"cohorts": cohorts, "train": {"models": networks}, "explain": {"model": EXPLAINED}}


def run(name: str, words: list[str], root: Path) -> tuple[float, float, float]:
    """Run one step and print its line: seconds by the clock, processor time, peak memory in MiB."""
    home = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    began = time.perf_counter()
    step = subprocess.Popen(
        [sys.executable, "-m", "elr_mri", name, *words], cwd=root, env=os.environ | home, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(step.pid, 0)
    step.returncode = os.waitstatus_to_exitcode(status)
    if step.returncode:
        raise SystemExit(f"{name} ended with {step.returncode}")
    found = time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / MIB
    print(f"{name:12s}{found[0]:10.1f}{found[1]:11.1f}{found[2]:8.0f}", flush=True)
    return found


def draw(results: Path, n_scans: int, spacing_mm: float, seed: int) -> None:
    """Write the files of all steps before."""
    rng = np.random.default_rng(seed)
    sizes = {name: max(12, round(n * n_scans / 5000)) for name, n in SUBJECTS.items()}
    table = draw_table(config.RoiPhantom(seed=seed, **sizes)).head(n_scans)
    scans = scan_table(table, rng)
    SCANS.write(scans, results / "scans" / "ingest" / "scans.tsv")
    splits = table[["cohort", "participant_id", "split"]].drop_duplicates()
    splits = splits.rename(columns={"participant_id": "subject_id"}).assign(fold=np.nan)
    SPLIT.write(splits, results / "scans" / "split" / "splits.tsv")
    visits(scans, rng, results / "scans" / "ingest")
    joined = scans.merge(splits.drop(columns="fold"), on=["cohort", "subject_id"])
    DEMOGRAPHICS.write(count(joined), results / "scans" / "demographics" / "demographics.tsv")
    rows = table.rename(columns=lambda name: OURS.get(name.lower(), name)).drop(columns=["participant_id", "session_id", "cohort", "split", "diagnosis", "age", "sex"])  # fmt: skip
    rows = rows.assign(scan_id=scans["scan_id"].to_numpy(), source="freesurfer", note=None)
    rows = rows.assign(**{total: rows[list(sides)].sum(axis=1) for total, sides in TOTALS.items()})
    pack = results / "imaging" / "pack"
    pack.mkdir(parents=True, exist_ok=True)
    known = dict.fromkeys([*(column.name for column in ROI_TABLE.columns), *rows.columns])
    write_tsv(rows.reindex(columns=list(known)), pack / "roi_volumes.tsv")
    predictions(joined, rng, results / "learning")
    pictures(scans, rng, results, spacing_mm)
    told = {"n_scans": len(scans), "n_subjects": scans["subject_id"].nunique(), "n_regions": rows.shape[1] - 4}
    provenance.write_json(results / "drawn.json", told | {"spacing_mm": spacing_mm})


def scan_table(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The scan table of the drawn people: scanners, sites and genes are a subject's, some are unknown."""
    people = table["participant_id"].drop_duplicates()
    of = pd.DataFrame({"participant_id": people, "site": rng.integers(0, 30, len(people)).astype(str), "apoe4": rng.choice(3, len(people), p=(0.5, 0.4, 0.1))})  # fmt: skip
    of = of.assign(manufacturer=rng.choice(["SIEMENS", "GE MEDICAL SYSTEMS", "Philips", None], len(of)), field_strength_t=rng.choice([1.5, 3.0], len(of)))  # fmt: skip
    joined = table.merge(of, on="participant_id")
    scan_ids = joined["participant_id"] + "_" + joined["session_id"]
    told = joined.rename(columns={"participant_id": "subject_id", "age": "age_years"}).assign(
        scan_id=scan_ids, image_path=scan_ids + ".nii.gz", months=joined["session_id"].str[5:].astype(float)
    )
    return told.reindex(columns=[column.name for column in SCANS.columns])


def visits(scans: pd.DataFrame, rng: np.random.Generator, folder: Path) -> None:
    """Visits: those of the scans, and for half of the people two yearly ones later; exclusions and notes as many as one would see."""
    told = scans[["cohort", "subject_id", "months", "age_years", "diagnosis"]]
    last = told.groupby(["cohort", "subject_id"], as_index=False).last()
    parts = [told]
    for years in (1, 2):
        worse = last["diagnosis"].map(CLASSES.index) + (rng.random(len(last)) < 0.15)
        last = last.assign(diagnosis=[CLASSES[min(c, 2)] for c in worse])
        later = last.assign(months=last["months"] + 12 * years, age_years=last["age_years"] + years)
        parts.append(later[rng.random(len(last)) < 0.5])
    VISITS.write(pd.concat(parts, ignore_index=True), folder / "visits.tsv")
    n = len(scans)
    out = {"cohort": scans["cohort"], "image_path": scans["scan_id"] + "_other.nii.gz", "image_uid": None, "subject_id": scans["subject_id"]}  # fmt: skip
    reasons = rng.choice(["repeat", "localizer", "no diagnosis"], n)
    EXCLUSIONS.write(pd.DataFrame(out).assign(reason=reasons, detail=None), folder / "exclusions.tsv")
    noted = scans.sample(n // 20, random_state=0)[["cohort", "subject_id", "months"]]
    NOTES.write(noted.assign(note="two tables disagree on the diagnosis"), folder / "notes.tsv")


def predictions(joined: pd.DataFrame, rng: np.random.Generator, folder: Path) -> None:
    """Each network's predictions, which err alike at the visits of a subject, and its history."""
    person = np.unique(joined["subject_id"], return_inverse=True)[1]
    severity = joined["diagnosis"].map(CLASSES.index).to_numpy() - 1.0
    seen = severity + rng.normal(0, 0.6, person.max() + 1)[person]
    for place, name in enumerate(NETWORKS):
        own = rng.normal(0, 0.7 - 0.06 * place, person.max() + 1)[person]
        guess = seen + own + rng.normal(0, 0.3, len(joined))
        logits = -1.6 * (guess[:, None] - np.array([-1.0, 0, 1])) ** 2
        out = folder / name / "seed-0"
        PREDICTIONS.write(prediction_table(joined, logits, model=name, seed=0), out / "predictions.tsv")
        epoch = np.arange(1, 31)
        fall = pd.DataFrame({"epoch": epoch, "train_ce": 1.1 / np.sqrt(epoch), "val_ce": 1.1 - 0.01 * epoch})
        write_tsv(fall.assign(train_accuracy=1 - 0.7 / epoch, val_balanced_accuracy=0.33 + 0.01 * epoch), out / "history.tsv")  # fmt: skip


def pictures(scans: pd.DataFrame, rng: np.random.Generator, results: Path, spacing_mm: float) -> None:
    """The cache, its states, a verdict and picture of every registration, saliency maps and their tables."""
    register, measure = config.Register(), config.Measure()
    anatomy = read_anatomy(register.template, register.template_mask, measure.labels)
    step = spacing_mm / np.abs(anatomy.template.affine[0, 0])
    brain = _thinned(anatomy.template.data, step)
    affine = anatomy.template.affine @ np.diag([step, step, step, 1])
    pack, stored = results / "imaging" / "pack", encode(brain, "uint8")
    cache = np.lib.format.open_memmap(pack / "volumes.npy", mode="w+", dtype=np.uint8, shape=(len(scans), *brain.shape))
    for row, brightness in zip(cache, rng.uniform(0.85, 1.0, len(scans)), strict=True):
        row[:] = stored * brightness
    cache.flush()
    index = scans[["scan_id"]].assign(row=range(len(scans)), sha256="0" * 64, source="drawn")
    INDEX.write(index, pack / "index.tsv")
    meta = {"version": CACHE_VERSION, "affine": affine.tolist(), "shape": brain.shape, "channels": ["T1w"], "dtype": "uint8"}  # fmt: skip
    provenance.write_json(pack / "meta.json", meta)
    states = scans[["scan_id"]].assign(step="pack", status=rng.choice(["pass", "review"], len(scans), p=(0.95, 0.05)), reason="")  # fmt: skip
    write_tsv(states, pack / "status.tsv")
    picture = results / "qc.png"
    Figure(figsize=(9, 2.4)).savefig(picture, dpi=100)
    for scan_id, number in zip(scans["scan_id"], rng.uniform(0.6, 0.9, len(scans)), strict=True):
        folder = results / "imaging" / "register" / scan_id
        folder.mkdir(parents=True)
        shutil.copyfile(picture, folder / f"{scan_id}_space-MNI_qc.png")
        (folder / f"{scan_id}_space-MNI_qc.json").write_text(json.dumps({"numbers": {"local_correlation": number}}))
    maps = results / "learning" / "explain" / EXPLAINED
    maps.mkdir(parents=True)
    inside = anatomy.template.data > 0
    for name in ("aggregate", "aggregate_random", *(f"{kind}_{c}" for kind in ("aggregate", "example") for c in CLASSES)):  # fmt: skip
        drawn = nib.Nifti1Image((rng.random(inside.shape) * inside).astype(np.float32), anatomy.template.affine)
        nib.save(drawn, maps / f"{name}.nii.gz")
    rows = [
        {"method": "gradient", "model": model, "class": name, "way": AGGREGATE, "region": region, "volume_share": volume, "mass_share": volume, "ratio": 1.0, "low": 0.9, "high": 1.1, "n_scans": 300, "n_subjects": 90}
        for model in (TRAINED, RANDOM) for name in (ALL, *CLASSES) for region, volume in (*((side, 0.002) for side in REGIONS), (LOBES, 0.008), (REST, 0.9))
    ]  # fmt: skip
    SHARES.write(pd.DataFrame(rows), maps / "shares.tsv")


def _thinned(volume: np.ndarray, step: float) -> np.ndarray:
    """Every `step`-th voxel along each axis."""
    return volume[np.ix_(*(np.arange(0, n - 0.5, step).astype(int) for n in volume.shape))]


if __name__ == "__main__":
    main()
