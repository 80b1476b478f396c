"""The methods section, second part: baselines and fusion, calibration, comparisons, groups of people, time to AD and saliency.

As in `methods.py`, a paragraph stands here only where the table or the file that it tells of was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from elr_mri import config
from elr_mri.findings import for_whom
from elr_mri.findings.trust import Tables
from elr_mri.provenance import read_json, sidecar

METHODS = {
    "gradient": "gradients",
    "gradient-input": "gradients times the input",
    "smoothgrad": "SmoothGrad [@smoothgrad]",
    "integrated": "integrated gradients [@integrated]",
}


def written(
    *,
    study: config.Study,
    baselines: dict[str, Any] | None,
    calibration: Tables,
    family: pd.DataFrame,
    reference: str,
    whom: for_whom.Tables,
    explain_dir: Path | None,
) -> list[str]:
    """The paragraphs, with the marks of `references.py`.

    Parameters
    ----------
    baselines : what `baseline_told.read` found
    calibration, family : tables of `evaluate` and of `comparisons.compared`
    reference : the model that others are compared with
    whom : tables of `subgroups`, `shift` and `progression`
    explain_dir : the folder of the model whose maps are shown
    """
    return [
        *_baselines(baselines),
        *_calibrated(calibration),
        *_compared(family, reference),
        *_groups(study, whom),
        *_progression(study, whom),
        *([_saliency(explain_dir)] if explain_dir else []),
    ]


def _baselines(told: dict[str, Any] | None) -> list[str]:
    """The baseline of all regions and the fusion, where they were made."""
    rows = {row["name"]: row for row in (told or {}).get("rows", [])}
    said = []
    if row := rows.get("volumes-all"):
        said.append(
            f"A second baseline (volumes-all) sees {row['sees']}. Tried were: {', '.join(trial['kind'] for trial in told['trials'])} [@sklearn]; they "
            f"were compared by the log-loss on validation scans, each calibrated there by one temperature [@temperature]; chosen: {row['chosen']}."
        )
    if row := rows.get("fused"):
        said.append(f"The fusion (fused) joins {row['sees']} [@stacking]: {row['chosen']}.")
    return [f"Baselines. {' '.join(said)}"] if said else []


def _calibrated(tables: Tables) -> list[str]:
    """Temperature scaling, where it could be fitted."""
    fitted = tables.temperatures.dropna(subset=["temperature"])
    if fitted.empty:
        return []
    return [
        f"Calibration. The logits of each training were divided by one temperature, of lowest log-loss on {int(fitted['n_scans'].max())} validation scans [@temperature]. Brier score, "
        "log-loss and expected calibration error (ten bins of the predicted class’s probability) are given before and after."
    ]


def _compared(family: pd.DataFrame, reference: str) -> list[str]:
    """The family of comparisons, where there is one."""
    if not (n := int(family["p"].notna().sum()) if len(family) else 0):
        return []
    return [
        f"Comparisons. Every other method was compared with {reference} in balanced accuracy on every set of unseen scans ({n} comparisons); p-values are those at which the "
        "bootstrap interval of the paired difference would just reach zero, with Holm’s correction over all of them [@holm]."
    ]


def _groups(study: config.Study, whom: for_whom.Tables) -> list[str]:
    """Subgroups and shift, where their tables were made."""
    said = []
    if whom.subgroups is not None:
        bounds = " and ".join(f"{bound:g}" for bound in study.subgroups.age_bounds_years)
        said.append(
            f"Scores were compared between each group and all other subjects of the same set, by age (bounds {bounds} years), sex, field strength, manufacturer, site and APOE ε4 "
            f"status, where a group had at least {study.subgroups.min_subjects} subjects; gaps were judged by intervals widened by Holm’s procedure over all gaps [@holm]."
        )
    if whom.shift is not None:
        said.append(
            "Test and external scans were compared with the training scans by standardised mean differences [@smd] and by the AUC of a linear classifier that was to tell the two apart, "
            "cross-fitted by subject [@twosample]."
        )
    return [f"Groups and shift. {' '.join(said)}"] if said else []


def _progression(study: config.Study, whom: for_whom.Tables) -> list[str]:
    """Time to AD, where its tables were made."""
    if whom.progression is None:
        return []
    cut = "median" if study.progression.risk_groups == 2 else "tertiles"
    return [
        f"Progression. Of each subject the first unseen scan with MCI was taken. Time to the first visit with AD, censored at the last visit, was related to the log-odds that the model gives to "
        f"AD by Kaplan–Meier curves (divided at the {cut}), Cox regression [@cox] with Efron’s treatment of ties [@efron] as in statsmodels [@statsmodels], alone and adjusted for age, and "
        f"Harrell’s concordance [@concordance]; nothing was estimated from fewer than {study.progression.min_events} events."
    ]


def _saliency(explain_dir: Path) -> str:
    """The saliency maps, by the methods that were asked for."""
    beside = sidecar(explain_dir / "aggregate.nii.gz")
    settings = (read_json(beside).get("settings") or {}) if beside.is_file() else {}
    how = [METHODS[name] for name in settings.get("methods", ["gradient"])]
    names = " and ".join([", ".join(how[:-1]), how[-1]] if len(how) > 1 else how)
    return (
        f"Saliency. Maps of {explain_dir.name}’s evidence for AD over CN by {names} [@saliency] were divided by what the architecture alone lets through, averaged over scans on the template’s "
        "grid and set beside those of fresh weights [@sanity]; a region’s share of saliency was divided by its share of the volume that reaches the network."
    )
