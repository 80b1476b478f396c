"""Volume baselines on synthetic tables with about 100 regions and an external cohort of people enrolled at other ages.

    python benchmarks/baselines.py --tables 8 --first 0
    python benchmarks/baselines.py --tables 4 --ages alike

Each table is drawn anew (`elr_mri/phantom/roi_tables.py`, `ages: enrolment` unless told): in ADNI the young are patients, in the external cohort
they are healthy. Side by side, trained and tested on the same scans:

    forest with age       scikit-learn's random forest on all regions in mm³, the intracranial volume and age, as it comes
    forest without age    the same without age
    volumes-all           ours, default settings, chosen and calibrated on the table's validation scans; with --variants also with age left in
                          the regions, with age as a feature, with the cohort's features moved, and with its classes' shares estimated
    volumes               hippocampus and entorhinal cortex only

Printed: mean and deviation over tables of test and external balanced accuracy (percent) and of the paired difference of volumes-all from each
other. Our figures come from the predictions that `elr-mri baseline --table` writes to WORK.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from elr_mri import config
from elr_mri.findings.baseline import baseline_of_tables
from elr_mri.findings.metrics import score
from elr_mri.phantom.roi_tables import roi_tables
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS
from elr_mri.scans.table import CLASSES

WHO = ["participant_id", "session_id", "cohort", "split", "diagnosis", "age", "sex"]
#: What differs from the default of `baseline.all_regions`.
VARIANTS = {
    "age left in the regions": {"age": "ignore"},
    "age as a feature": {"age": "feature"},
    "location": {"align": "location"},
    "mixture": {"align": "mixture"},
}
OURS = "volumes-all"


def main() -> None:
    """Draw the tables, score every method on each, print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=8, help="number of tables")
    parser.add_argument("--first", type=int, default=0, help="seed of the first table")
    parser.add_argument("--ages", choices=("enrolment", "alike"), default="enrolment")
    parser.add_argument("--effect", type=float, default=1.0, help="effect_scale of the tables")
    parser.add_argument("--subjects", type=float, default=1.0, help="size of every split relative to the default")
    parser.add_argument("--trees", type=int, default=500, help="trees of the plain forests")
    parser.add_argument("--variants", action="store_true", help="our model with other settings as well")
    parser.add_argument("--work", type=Path, default=Path("baselines-benchmark"))
    options = parser.parse_args()
    lines = []
    for seed in range(options.first, options.first + options.tables):
        sizes = {"n_train": 460, "n_val": 99, "n_test": 96, "n_external": 200}
        sizes = {name: max(30, round(options.subjects * n)) for name, n in sizes.items()}
        drawn = config.RoiPhantom(seed=seed, ages=options.ages, effect_scale=options.effect, **sizes)
        path = roi_tables(drawn, options.work / f"table-{seed}")
        started = time.process_time()
        lines += table_scores(path, seed=seed, trees=options.trees, variants=options.variants)
        print(f"table {seed}: {time.process_time() - started:.0f} s of CPU", flush=True)
        pd.DataFrame(lines).to_csv(options.work / "scores.tsv", sep="\t", index=False)
    print(summary(pd.DataFrame(lines)))


def table_scores(path: Path, *, seed: int, trees: int, variants: bool) -> list[dict[str, object]]:
    """Balanced accuracy and log-loss of every method on one table's test and external scans."""
    table = pd.read_csv(path, sep="\t")
    regions = [name for name in table.columns if name not in WHO]
    said = {
        "forest with age": plain_forest(table, [*regions, "age"], seed=seed, trees=trees),
        "forest without age": plain_forest(table, regions, seed=seed, trees=trees),
    }
    said |= ours(path, {"prior_shift": variants})
    for name, changed in VARIANTS.items() if variants else ():
        said[f"{OURS}, {name}"] = ours(path, changed)[OURS]
    lines = []
    for method, predictions in said.items():
        for split in ("test", "external"):
            rows = predictions[predictions["split"] == split]
            labels, shares = rows["diagnosis"].map(CLASSES.index).to_numpy(), rows[list(P_COLUMNS)].to_numpy()
            likely = np.maximum(shares[np.arange(len(rows)), labels], 1e-3)
            scores = {name: score(labels, shares)[name] for name in ("accuracy", "balanced_accuracy", "macro_auc")}
            lines.append(
                {"seed": seed, "method": method, "split": split} | scores | {"log_loss": -np.log(likely).mean()}
            )
    return lines


def plain_forest(table: pd.DataFrame, features: list[str], *, seed: int, trees: int) -> pd.DataFrame:
    """What scikit-learn's random forest says with its defaults: split, diagnosis and probabilities."""
    train = table["split"] == "train"
    model = RandomForestClassifier(trees, random_state=seed)
    model.fit(table.loc[train, features], table.loc[train, "diagnosis"])
    said = pd.DataFrame(model.predict_proba(table[features]), columns=model.classes_)[list(CLASSES)]
    return table[["split", "diagnosis"]].join(said.set_axis(list(P_COLUMNS), axis=1))


def ours(path: Path, changed: dict[str, object]) -> dict[str, pd.DataFrame]:
    """The predictions of `elr-mri baseline --table`, by model."""
    settings = config.Baseline(
        all_regions=config.AllRegions(**changed),
        tables=config.RoiTables(path=str(path), regions=None),
    )
    name = "-".join(f"{key}-{value}" for key, value in changed.items())
    predictions = PREDICTIONS.read(baseline_of_tables(settings=settings, out_dir=path.parent / name))
    return {str(model): rows for model, rows in predictions.groupby("model", sort=False)}


def summary(scores: pd.DataFrame) -> str:
    """Means and deviations over tables, and paired differences, in percent."""
    by = scores.pivot(index="seed", columns=["split", "method"], values="balanced_accuracy") * 100
    losses = scores.groupby(["split", "method"])["log_loss"].mean()
    lines = [f"{by.shape[0]} tables; balanced accuracy in percent, mean ± deviation over tables", ""]
    lines.append(
        "| method | test | external | volumes-all better on test by | on external by | log-loss test, external |"
    )
    lines.append("|---|---|---|---|---|---|")
    for method in scores["method"].unique():
        cells = []
        for split in ("test", "external"):
            cells.append(f"{by[split, method].mean():.1f} ± {by[split, method].std(ddof=1):.1f}")
        for split in ("test", "external"):
            gap = by[split, OURS] - by[split, method]
            cells.append("" if method == OURS else f"{gap.mean():+.1f} ± {gap.std(ddof=1):.1f}")
        cells.append(f"{losses['test', method]:.3f}, {losses['external', method]:.3f}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
