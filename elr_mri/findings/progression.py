"""Do people with MCI whom a model thinks at risk come to Alzheimer's disease sooner? From `visits.tsv`, with censoring.

One index scan for each test or external subject: the first that has MCI. The event is the first later visit with AD; who has none is censored at the last
visit that has a diagnosis. Who had AD before, or has no later diagnosis, is counted and left out; who returned to CN stays,
censored, and is counted. The risk is the log-odds of the model's p_ad (of several seeds, of their mean); low and high
are divided at its median, or by its tertiles, among those followed: never by the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri import config, provenance
from elr_mri.findings.bootstrap import interval, weight_chunks
from elr_mri.findings.predicted import UNSEEN, read_predictions
from elr_mri.findings.subgroups import chosen, common_scans, scans_of
from elr_mri.findings.survival import Ratio, concordance, hazard_ratio, kaplan_meier
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import SPLITS, VISITS
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["progression"]
#: What becomes of the subjects of a test set; the first five add up to all.
STATES = ("no MCI scan", "AD before", "no later diagnosis", "came to AD", "censored")
DETAILS = ("returned to CN", "AD taken back")
MEASURES = ("hazard_ratio", "hazard_ratio_age", "concordance", "concordance_gain")
GROUPS = {2: ("lower", "higher"), 3: ("lowest", "middle", "highest")}
#: Probabilities are kept this far from 0 and 1 before their log-odds.
EDGE = 1e-6

_PLACE = (Column("cohort"), Column("split", allowed=SPLITS))

#: How a model's risk goes with the time to AD: hazard ratio for one standard deviation (alone, and given age), Harrell's concordance, and that minus the first model's.
PROGRESSION = Schema(
    name="progression",
    version=1,
    key=("model", "cohort", "split", "measure"),
    columns=(
        Column("model"),
        *_PLACE,
        Column("measure", allowed=MEASURES),
        *(Column(name, "number", required=False) for name in ("value", "low", "high", "p")),
        Column("level", "number", low=0, high=1),
        Column("n_subjects", "integer", required=False, low=0),
        Column("n_events", "integer", required=False, low=0),
        Column("note", required=False),
    ),
)
#: Kaplan–Meier curves by group of risk, as far as enough people are at risk; the blank count is where too few are left.
SURVIVAL = Schema(
    name="survival",
    version=1,
    key=("model", "cohort", "split", "risk", "step"),
    columns=(
        Column("model"),
        *_PLACE,
        Column("risk", allowed=tuple(name for names in GROUPS.values() for name in names)),
        Column("step", "integer", low=0),
        Column("years", "number", low=0),
        *(Column(name, "number", required=False, low=0, high=1) for name in ("survival", "low", "high")),
        Column("at_risk", "integer", required=False, low=0),
    ),
)
#: What became of every subject of a test set; a count that is too small to be told is blank.
FOLLOWED = Schema(
    name="followed",
    version=1,
    key=("cohort", "split", "what"),
    columns=(*_PLACE, Column("what", allowed=(*STATES, *DETAILS)), Column("n_subjects", "integer", required=False)),
)


def progression(
    *, prediction_paths: list[Path], scans_path: Path, visits_path: Path, settings: config.Progression, out_dir: Path
) -> Path:
    """Write `progression.tsv`, `survival.tsv` and `followed.tsv` in `out_dir`; returns the path of the first.

    The first model of the tables is the one that the others are compared with.
    """
    predictions = common_scans(chosen(read_predictions(prediction_paths), settings.models))
    when = scans_of(predictions, scans_path)[["months", "age_years"]]
    predictions = predictions[predictions["split"].isin(UNSEEN)].join(when, on="scan_id", validate="m:1")
    visits = VISITS.read(visits_path)
    measures, curves, counts = [], [], []
    for (cohort, split), rows in predictions.groupby(["cohort", "split"], sort=False):
        place = {"cohort": str(cohort), "split": str(split)}
        people = follow(rows, visits[visits["cohort"] == cohort])
        counts += [{**place, "what": what, "n_subjects": n} for what, n in count(people).items()]
        followed = people[people["state"].isin(STATES[3:])]
        risks = {m: risk_of(rows[rows["model"] == m], followed["scan_id"]) for m in dict.fromkeys(rows["model"])}
        measures += [{**place, **line} for line in _measures(followed, risks, settings)]
        curves += [{**place, **line} for line in _curves(followed, risks, settings)]
    out_dir = Path(out_dir)
    out = out_dir / "progression.tsv"
    told = pd.DataFrame(counts, columns=[c.name for c in FOLLOWED.columns])
    FOLLOWED.write(hidden(told, settings.min_cell), out_dir / "followed.tsv")
    SURVIVAL.write(pd.DataFrame(curves, columns=[c.name for c in SURVIVAL.columns]), out_dir / "survival.tsv")
    PROGRESSION.write(pd.DataFrame(measures, columns=[c.name for c in PROGRESSION.columns]), out)
    inputs = {str(path): provenance.digest_file(path) for path in (*prediction_paths, scans_path, visits_path)}
    provenance.record(out, step="progression", version=VERSION, settings=settings, inputs=inputs)
    return out


def follow(scans: pd.DataFrame, visits: pd.DataFrame) -> pd.DataFrame:
    """One line for each subject: what became of it (`STATES`), its index scan, and the time to AD or to the last diagnosis.

    Parameters
    ----------
    scans : DataFrame
        scan_id, subject_id, diagnosis, months and age_years of the scans of a test set; a scan may come more than once.
    visits : DataFrame
        subject_id, months and diagnosis of its cohort.

    Returns
    -------
    DataFrame with subject_id, state, scan_id, age_years (at the index scan), years, event, returned, taken_back; blank where there is no such thing
    """
    told = visits.dropna(subset=["diagnosis"]).sort_values(["subject_id", "months"], kind="stable")
    by_subject = dict(iter(told.groupby("subject_id")))
    lines = []
    for subject, own in scans.drop_duplicates("scan_id").sort_values(["months", "scan_id"]).groupby("subject_id"):
        mci = own[own["diagnosis"] == "MCI"]
        line = {"subject_id": subject, "state": STATES[0], "returned": False, "taken_back": False}
        if len(mci):
            index, seen = mci.iloc[0], by_subject.get(subject, told.iloc[:0])
            line |= {"scan_id": index["scan_id"], "age_years": index["age_years"]}
            later = seen[seen["months"] > index["months"]]
            if (seen.loc[seen["months"] <= index["months"], "diagnosis"] == "AD").any():
                line["state"] = STATES[1]
            elif later.empty:
                line["state"] = STATES[2]
            else:
                line |= _end(later, float(index["months"]))
        lines.append(line)
    columns = ["subject_id", "state", "scan_id", "age_years", "years", "event", "returned", "taken_back"]
    return pd.DataFrame(lines, columns=columns)


def _end(later: pd.DataFrame, start_months: float) -> dict[str, object]:
    """How a followed subject's time ended, from its later diagnoses in order of time."""
    is_ad = later["diagnosis"].to_numpy() == "AD"
    at = int(is_ad.argmax()) if is_ad.any() else len(later) - 1
    return {
        "state": STATES[3] if is_ad.any() else STATES[4],
        "years": (float(later["months"].iloc[at]) - start_months) / 12,
        "event": bool(is_ad.any()),
        "returned": not is_ad.any() and later["diagnosis"].iloc[-1] == "CN",
        "taken_back": bool(is_ad.any() and not is_ad[at:].all()),
    }


def count(people: pd.DataFrame) -> dict[str, int]:
    """How many subjects became what: `STATES`, then `DETAILS`."""
    counts = {state: int((people["state"] == state).sum()) for state in STATES}
    return counts | {DETAILS[0]: int(people["returned"].sum()), DETAILS[1]: int(people["taken_back"].sum())}


def hidden(counts: pd.DataFrame, min_cell: int) -> pd.DataFrame:
    """The counts without those between 0 and `min_cell`, nor the one from which a single such count could be had by subtraction.

    Known are the sums of those left out and of those followed: in each of these two parts no count is hidden alone.
    """
    counts = counts.assign(n_subjects=counts["n_subjects"].astype(float))
    for _, rows in counts.groupby(["cohort", "split"], sort=False):
        small = rows["n_subjects"].between(1, min_cell - 1)
        for part in (STATES[:3], STATES[3:]):
            own = rows["what"].isin(part)
            if (small & own).sum() == 1:
                small |= rows.index == rows.loc[own & ~small, "n_subjects"].idxmax()
        counts.loc[rows.index[small], "n_subjects"] = np.nan
    return counts


def risk_of(predictions: pd.DataFrame, scan_ids: pd.Series) -> np.ndarray:
    """The log-odds of p_ad of scans, (n,) float; the mean of p_ad over a model's seeds."""
    p = predictions.groupby("scan_id")["p_ad"].mean().reindex(scan_ids).to_numpy(float).clip(EDGE, 1 - EDGE)
    return np.log(p / (1 - p))


def _measures(people: pd.DataFrame, risks: dict[str, np.ndarray], settings: config.Progression) -> Iterator[dict]:
    """Lines of `PROGRESSION` of one test set; `people` are those followed, in the order of each model's risks."""
    years, event = people["years"].to_numpy(float), people["event"].to_numpy(bool)
    n_events, note = int(event.sum()), None
    if n_events < settings.min_events or len(people) - n_events < 1:
        note = f"fewer than {settings.min_events} came to AD" if n_events < settings.min_events else "all came to AD"
    shown = {
        "n_subjects": len(people) if len(people) >= settings.min_cell else None,
        "n_events": n_events if min(n_events, len(people) - n_events) >= settings.min_cell else None,
    }
    draws = _draws(people["subject_id"], years, event, risks, settings) if note is None else {}
    first = next(iter(draws), None)
    for model, risk in risks.items():
        found = dict.fromkeys(MEASURES, Ratio(*[np.nan] * 4))
        if note is None:
            found["hazard_ratio"] = hazard_ratio(years, event, risk, level=settings.level)
            age = people["age_years"].to_numpy(float)
            found["hazard_ratio_age"] = hazard_ratio(years, event, risk, age, level=settings.level)
            once = np.ones((1, len(years)))
            values = {name: float(concordance(years, event, risks[name], once)[0]) for name in (model, first)}
            for measure, value, drawn, null in (
                ("concordance", values[model], draws[model], 0.5),
                ("concordance_gain", values[model] - values[first], draws[model] - draws[first], 0.0),
            ):
                found[measure] = Ratio(value, *interval(drawn, level=settings.level), two_sided(drawn, null))
        for measure in MEASURES:
            if measure == "concordance_gain" and model == first:
                continue
            estimated = note or (None if np.isfinite(found[measure].value) else "no finite estimate")
            line = {"model": model, "measure": measure, **found[measure]._asdict()}
            yield line | {"level": settings.level, "note": estimated, **shown}


def _draws(
    subjects: pd.Series,
    years: np.ndarray,
    event: np.ndarray,
    risks: dict[str, np.ndarray],
    settings: config.Progression,
) -> dict[str, np.ndarray]:
    """Each model's concordance on the same draws of subjects, (n_draws,)."""
    chunks = list(weight_chunks(list(subjects), draws=settings.draws, seed=settings.seed))
    return {
        model: np.concatenate([concordance(years, event, risk, w) for w in chunks]) for model, risk in risks.items()
    }


def two_sided(drawn: np.ndarray, null: float) -> float:
    """p-value of `null` from bootstrap draws: 2 (k + 1) / (draws + 1), k the draws on the rarer side of it."""
    defined = drawn[np.isfinite(drawn)]
    k = min((defined <= null).sum(), (defined >= null).sum())
    return float(min(2 * (k + 1) / (len(defined) + 1), 1.0))


def _curves(people: pd.DataFrame, risks: dict[str, np.ndarray], settings: config.Progression) -> Iterator[dict]:
    """Lines of `SURVIVAL` of one test set, each curve as far as `min_cell` people are at risk; none of a group that is smaller from the start,
    and none where fewer than `min_cell` came to AD or did not: the steps of the curves would tell the number that `FOLLOWED` does not."""
    names = GROUPS[settings.risk_groups]
    years, event = people["years"].to_numpy(float), people["event"].to_numpy(bool)
    if min(event.sum(), (~event).sum()) < settings.min_cell:
        return
    for model, risk in risks.items():
        if not len(risk):
            continue
        cuts = np.quantile(risk, np.arange(1, len(names)) / len(names))
        which = np.searchsorted(cuts, risk, side="left")
        for number, name in enumerate(names):
            mask = which == number
            if mask.sum() < max(settings.min_cell, 1):
                continue
            curve = kaplan_meier(years[mask], event[mask], level=settings.level, also=range(int(years.max()) + 1))
            told = int((curve["at_risk"] >= settings.min_cell).sum())  # it never rises
            for step in range(min(told + 1, len(curve["years"]))):
                last = {"at_risk": None} if step == told else {}  # as far as the last level that is told reaches
                at = {key: values[step if key == "years" else min(step, told - 1)] for key, values in curve.items()}
                yield {"model": model, "risk": name, "step": step, **at, **last}
