"""What the report says of the volume baselines and the fusion: what each is, what validation chose, what was done about external cohorts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elr_mri.findings import all_regions
from elr_mri.findings.baseline import MODEL
from elr_mri.findings.words import percent
from elr_mri.findings.wscores import FITTED
from elr_mri.provenance import read_json

_KINDS = {
    "logistic": "logistic regression",
    "forest": "random forest",
    "boosting": "gradient boosting",
    "mean": "mean of their probabilities",
}
_HEAD = {
    "ratio": "as shares of the intracranial volume",
    "residual": "with head size regressed out by healthy people",
    "none": "in mm³, head size left in",
}


def read(baseline_dir: Path | None, fuse_dir: Path | None) -> dict[str, Any] | None:
    """Rows, trials and sentences of the section; None where neither folder is given.

    Parameters
    ----------
    baseline_dir, fuse_dir : path or None
        What `baseline` and `fuse` wrote.
    """
    if baseline_dir is None and fuse_dir is None:
        return None
    first, second = (
        _facts(baseline_dir, f"{name}.json") if baseline_dir else None for name in ("model", all_regions.MODEL)
    )
    third = _facts(fuse_dir, "model.json") if fuse_dir else None
    rows = [row(facts) for facts, row in ((first, _of_volumes), (second, _of_all), (third, _of_fused)) if facts]
    return {
        "rows": rows,
        "trials": _trials(second) if second else [],
        "age": second and _of_age(second["features"]),
        "cohorts": [_of_cohort(cohort, second) for cohort in second["external"]] if second else [],
        "align": second and second["align"],
        "n_val": second and f"{second['n_val_scans']} validation scans of {second['n_val_subjects']} subjects",
    }


def _facts(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    return read_json(path) if path.is_file() else None


def _of_volumes(facts: dict[str, Any]) -> dict[str, str]:
    seen = f"{len(facts['features'])} features: hippocampus and entorhinal cortex, {_HEAD[facts['normalisation']['method']]}"
    if "age_years" in facts["features"]:
        seen += ", and age"
    tried = facts["validation"]
    chosen = f"logistic regression, C {facts['inverse_regularisation']:.3g} of {len(tried)} strengths, by log-loss"
    return {"name": MODEL, "sees": seen, "chosen": chosen}


def _of_all(facts: dict[str, Any]) -> dict[str, str]:
    how, made = facts["features"], facts["classifier"]
    seen = f"{len(how['regions'])} regions"
    if how["lines"] != FITTED:
        head = "volumes as shares of the intracranial volume" if how["head"] else "head size left in"
        seen += f", {head}, age left in: {how['lines'].partition(':')[0]}, so that no line could be fitted"
    elif how["head"] or how["age"]:
        out = " and ".join(["head size"] * how["head"] + ["age"] * how["age"])
        seen += f", {out} taken out by {how['of']}"
    seen += ", and age as it is" if how["age_is_feature"] else ""
    setting = next(trial["setting"] for trial in facts["validation"] if trial["chosen"])
    chosen = f"{_KINDS[made['kind']]} ({setting}), of {len(facts['validation'])} trials by log-loss; temperature {made['temperature']:.2f}"
    return {"name": all_regions.MODEL, "sees": seen, "chosen": chosen}


def _of_fused(facts: dict[str, Any]) -> dict[str, str]:
    runs, told = facts["runs"], []
    for how, why in dict.fromkeys((run["how"], run["why"]) for run in runs):
        n = sum((run["how"], run["why"]) == (how, why) for run in runs)
        words = "stacked" if how == "stacked" else "the mean of their log-probabilities"
        words += (
            f", by cross-validation over {runs[0]['n_val_subjects']} validation subjects"
            if why == "cross-validation"
            else f", because there are {why}"
        )
        told.append(words + (f" ({n} of {len(runs)} seeds)" if len(runs) > 1 else ""))
    return {"name": facts["model"], "sees": f"what {' and '.join(facts['of'])} say", "chosen": "; ".join(told)}


def _trials(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The best trial of each kind."""
    best: dict[str, dict[str, Any]] = {}
    for trial in facts["validation"]:
        if trial["kind"] not in best or trial["val_log_loss"] < best[trial["kind"]]["val_log_loss"]:
            best[trial["kind"]] = trial
    return [
        {
            "kind": _KINDS[kind],
            "setting": trial["setting"] if kind != "mean" else "",
            "log_loss": f"{trial['val_log_loss']:.3f}",
            "balanced": percent(trial["val_balanced_accuracy"]),
            "chosen": trial["chosen"],
        }
        for kind, trial in best.items()
    ]


def _of_age(how: dict[str, Any]) -> str:
    """What became of age, in a sentence."""
    if how["age_is_feature"]:
        return (
            "Age is a feature of volumes-all: where a cohort enrols people of other ages, it can mislead there, "
            "however much it helps at home."
        )
    if not how["age"]:
        return "Age is left in the regions of volumes-all."
    low, high = how["age_years"]
    return (
        "Age is no feature of volumes-all. What healthy people lose with age is taken out of each region, by lines through "
        f"the cognitively normal training scans (ages beyond {low:.0f} to {high:.0f} years count as these), so that it cannot serve "
        "to guess the class from how a cohort was enrolled."
    )


def _of_cohort(cohort: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """An external cohort's estimated shares of the classes beside those of training, in percent."""
    pairs = zip(facts["classes"], cohort["estimated_shares"], facts["training_shares"], strict=True)
    cells = [f"{name} {100 * here:.0f} % (training {100 * there:.0f} %)" for name, here, there in pairs]
    return {"name": cohort["cohort"], "n_scans": cohort["n_scans"], "shares": ", ".join(cells)}
