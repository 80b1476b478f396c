"""Finding wrong labels on phantoms, against an observer who knows each scan's true severity.

    python benchmarks/audit.py --results results --draws 200

Of a finished study (`make demo`, and `snakemake lab` for trainings on wrong labels). On the same training scans and labels, side by side:

    observer    knows the severity of the scan, how a clinician reads a severity (`elr_mri/phantom/subjects.py`: a normal error and two cut-offs), the
                share of wrong labels and that they are a neighbour's: the probability that the given label is wrong, by Bayes' rule
    audit       `elr-mri lab audit` of a training by ELR with those labels: the network's targets and the measured volumes
    volumes     the volumes' opinion alone, which needs no training and so can be asked of many draws of the wrong labels

Printed: average precision and precision among the first tenth, and their shares of the observer's. The issue on noisy labels asks 0.85 of both with 20 % wrong labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from elr_mri.config import Noise
from elr_mri.findings.baseline import read_volumes
from elr_mri.lab.audit import Volumes, ask_volumes, found, network_weight, pool, read_runs
from elr_mri.lab.noise import wrong_labels
from elr_mri.lab.ordinal import adjacent
from elr_mri.lab.truth import true_diagnoses
from elr_mri.phantom.subjects import CUT_OFFS, SUBJECT_READING_SD, VISIT_READING_SD
from elr_mri.scans.table import CLASSES, SPLIT, join_splits, read_scans

MEASURES = {"average_precision": "average precision", "precision_at_10_percent": "precision at 10 %"}


def main() -> None:
    """Ask every observer of every training and of every draw, print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="of a finished phantom study")
    parser.add_argument("--share", type=float, default=0.2, help="of the labels that are made wrong")
    parser.add_argument("--draws", type=int, default=200, help="of wrong labels, for the volumes alone")
    parser.add_argument("--method", default="elr", help="of the section lab.methods, whose trainings are audited")
    options = parser.parse_args()
    truth = options.results / "phantom" / "truth" / "visits.tsv"
    scans = join_splits(
        read_scans(options.results / "scans" / "ingest" / "scans.tsv"),
        SPLIT.read(options.results / "scans" / "split" / "splits.tsv"),
    )
    scans = scans[scans["split"] == "train"].reset_index(drop=True)
    scans["true"] = true_diagnoses(truth, scans).map(CLASSES.index)
    scans["severity"] = severities(truth, scans)
    measured = read_volumes(options.results / "imaging" / "pack" / "roi_volumes.tsv")
    told = {
        "volumes": list(of_draws(scans, measured, options.share, options.draws)),
        "audit": list(of_runs(scans, measured, options.results / "lab" / "mri" / options.method, options.share)),
    }
    print(f"{len(scans)} training scans, {options.share:.0%} of the labels to a neighbour")
    for name, figures in told.items():
        show(name, pd.DataFrame(figures))


def severities(truth: Path, scans: pd.DataFrame) -> pd.Series:
    """The true severity of each scan of the internal cohort, by subject and months."""
    table = pd.read_csv(truth, sep="\t")
    table["subject_id"] = "sub-" + table["cohort"] + table["subject"].str.replace("[^A-Za-z0-9]", "", regex=True)
    own = scans[["subject_id", "months"]].merge(table, on=["subject_id", "months"], how="left", validate="1:1")
    if own["severity"].isna().any():
        raise SystemExit(f"expected the severity of every training scan in {truth}; got none of {int(own['severity'].isna().sum())}")  # fmt: skip
    return own["severity"]


def observe(severity: np.ndarray, given: np.ndarray, share: float) -> np.ndarray:
    """(n,) the probability that the given label is wrong, by who knows the severity (n,) and how labels come about."""
    below = norm.cdf(np.array(CUT_OFFS), severity[:, None], np.hypot(SUBJECT_READING_SD, VISIT_READING_SD))
    classes = np.diff(below, prepend=0, append=1, axis=1)
    joint = classes * adjacent(share, len(CLASSES))[:, given].T
    return 1 - joint[np.arange(len(given)), given] / joint.sum(axis=1)


def of_draws(scans: pd.DataFrame, measured: pd.DataFrame, share: float, n: int) -> Iterator[dict[str, float]]:
    """What the volumes alone and the observer find, draw by draw."""
    true = scans["true"].to_numpy()
    for seed in range(n):
        given = wrong_labels(true, len(CLASSES), Noise(share=share, seed=seed)).given
        volumes = ask(scans, given, measured)
        left = 1 - volumes.said[np.arange(len(given)), given]
        yield compare(scans, given, np.nan_to_num(left), share)


def of_runs(scans: pd.DataFrame, measured: pd.DataFrame, folder: Path, share: float) -> Iterator[dict[str, float]]:
    """What the audit of each training with wrong labels and the observer find."""
    for finished in sorted((folder / f"share-{share:g}").glob("seed-*/targets.tsv")):
        runs = read_runs([finished.parent])
        own = runs.scans[["scan_id"]].merge(scans, on="scan_id", how="left", validate="1:1")
        given = runs.scans["given"].map(CLASSES.index).to_numpy()
        volumes = ask(own, given, measured)
        weight = network_weight(runs, volumes)
        both = pool(runs.targets, volumes.said, weight)
        yield compare(own, given, 1 - both[np.arange(len(given)), given], share) | {"network_weight": weight}


def ask(scans: pd.DataFrame, given: np.ndarray, measured: pd.DataFrame) -> Volumes:
    """The volumes' opinion of labels."""
    volumes = ask_volumes(scans.assign(given=np.array(CLASSES)[given]), measured)
    if volumes is None:
        raise SystemExit("expected volumes of the hippocampus or the entorhinal cortex; got none")
    return volumes


def compare(scans: pd.DataFrame, given: np.ndarray, left: np.ndarray, share: float) -> dict[str, float]:
    """Both measures of a ranking, and the observer's."""
    wrong = given != scans["true"].to_numpy()
    ours, ideal = found(wrong, left), found(wrong, observe(scans["severity"].to_numpy(), given, share))
    return {f"{who}_{name}": float(said[name] or 0) for who, said in (("ours", ours), ("ideal", ideal)) for name in MEASURES}  # fmt: skip


def show(name: str, figures: pd.DataFrame) -> None:
    """Means over the draws or trainings, their shares of the observer's, and the range of single shares."""
    if figures.empty:
        print(f"{name}: no training found; `snakemake lab` makes them")
        return
    for column, title in MEASURES.items():
        ours, ideal = figures[f"ours_{column}"], figures[f"ideal_{column}"]
        shares = ours / ideal
        print(
            f"{name:8s} {title:18s} {ours.mean():.3f} of the observer's {ideal.mean():.3f}: {ours.mean() / ideal.mean():.2f}"
            f" (n {len(figures)}, single {shares.quantile(0.1):.2f} to {shares.quantile(0.9):.2f} in 8 of 10, least {shares.min():.2f})"
        )
    if "network_weight" in figures:
        print(f"{name:8s} the network's weight {', '.join(f'{w:.2f}' for w in figures['network_weight'])}")


if __name__ == "__main__":
    main()
