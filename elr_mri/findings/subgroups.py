"""For whom a model works less well: scores by age band, sex, scanner, site and APOE ε4, and gaps that hold.

Every group of people is scored on the draws of subjects of the whole test set (`bootstrap.weight_chunks`), and so are the
others; their difference, the gap, is therefore paired wherever a subject has scans in both. A score's interval is as in `evaluate`, a gap's
gap ± t · (standard deviation over the draws), with one degree of freedom fewer than the smaller side has subjects: the tail of a percentile
interval that has to hold for a whole family of gaps would rest on a handful of draws. The family is every gap of the table;
Holm's step-down procedure (1979) widens the intervals, and a gap is flagged when its widened interval leaves out zero.

A group that is too small, or in which a class is too rare, is listed as not scored. A blank cell of the scan table is the group `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import draw, interval, without_each
from elr_mri.findings.grouped import GROUPED, grouped_scores
from elr_mri.findings.predicted import UNSEEN, Group, groups_of, read_predictions
from elr_mri.scans.predictions import ENSEMBLE
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import SPLITS, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["subgroups"]
FACTORS = ("age", "sex", "field strength", "manufacturer", "site", "APOE ε4")
#: The factor and the group that stand for everyone.
EVERYONE = "all"
UNKNOWN = "unknown"
MAKERS = {"siemens": "Siemens", "ge": "GE", "philips": "Philips"}

#: A score of a model in a group of people, with its interval; `gap`: minus that of the others, alone (`gap_low`) and with the
#: family of all gaps (`family_low`). Counts below the smallest that may be told, and one more where it could be inferred, are blank.
SUBGROUPS = Schema(
    name="subgroups",
    version=1,
    key=("model", "cohort", "split", "factor", "group", "metric"),
    columns=(
        Column("model"),
        Column("cohort"),
        Column("split", allowed=SPLITS),
        Column("factor", allowed=(EVERYONE, *FACTORS)),
        Column("group"),
        Column("metric", allowed=GROUPED),
        *(Column(name, "number", required=False) for name in ("value", "low", "high", "gap", "gap_low", "gap_high")),
        *(Column(name, "number", required=False) for name in ("family_low", "family_high", "p", "p_holm")),
        Column("flagged", required=False, allowed=("yes", "no")),
        Column("level", "number", low=0, high=1),
        Column("n_scans", "integer", required=False, low=1),
        Column("n_subjects", "integer", required=False, low=1),
        Column("note", required=False),
    ),
)


def subgroups(
    *, prediction_paths: list[Path], scans_path: Path, settings: config.Subgroups, out_path: Path | str
) -> Path:
    """Write the table `SUBGROUPS` of the models in the prediction tables; returns its path.

    Parameters
    ----------
    prediction_paths : list of path
        Tables of the models to look at; `settings.models` may choose among them.
    scans_path : path
        Tells age, sex, scanner, site and APOE ε4 of each scan.
    """
    predictions = common_scans(chosen(read_predictions(prediction_paths), settings.models))
    scans = scans_of(predictions, scans_path)
    lines: list[dict] = []
    for group in groups_of(predictions):
        if group.split in UNSEEN:
            here = (predictions["cohort"] == group.cohort) & (predictions["split"] == group.split)
            own = scans.loc[sorted(set(predictions.loc[here, "scan_id"]))]  # in the order of `groups_of`
            lines += _lines(group, factors(own, settings.age_bounds_years), settings)
    table = pd.DataFrame(lines, columns=[*(column.name for column in SUBGROUPS.columns), "se", "df"])
    SUBGROUPS.write(suppressed(holm(table, settings.level), settings.min_cell), out_path)
    inputs = {str(path): provenance.digest_file(path) for path in (*prediction_paths, scans_path)}
    provenance.record(out_path, step="subgroups", version=VERSION, settings=settings, inputs=inputs)
    return Path(out_path)


def chosen(predictions: pd.DataFrame, models: tuple[str, ...]) -> pd.DataFrame:
    """The rows of `models`, or where none is named of every model but the ensembles; refuses a name that no table holds."""
    known = list(dict.fromkeys(predictions["model"]))
    if absent := [name for name in models if name not in known]:
        raise BadInput(
            expected=f"one of {', '.join(known)}",
            got=absent[0],
            where="config, key models",
            fix="Name a model whose prediction table is given.",
        )
    names = models or tuple(name for name in known if not name.endswith(ENSEMBLE))
    return predictions[predictions["model"].isin(names)]


def common_scans(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of the scans that every model and seed predicted."""
    n_models = len(predictions[["model", "seed"]].drop_duplicates())
    return predictions[predictions.groupby("scan_id")["scan_id"].transform("size") == n_models]


def scans_of(predictions: pd.DataFrame, scans_path: Path) -> pd.DataFrame:
    """The scan table, by scan_id; refuses one that lacks a predicted scan, which else would be left out in silence."""
    scans = read_scans(scans_path).set_index("scan_id")
    if strange := sorted(set(predictions["scan_id"]) - set(scans.index)):
        raise BadInput(
            expected="predictions of scans of the scan table",
            got=f"{strange[0]} and {len(strange) - 1} more that it lacks",
            where=str(scans_path),
            fix="Predict again with the scan table in use.",
        )
    return scans


def factors(scans: pd.DataFrame, age_bounds_years: tuple[float, ...]) -> pd.DataFrame:
    """The group of every scan by every factor, a column each of `FACTORS`; `unknown` where the table tells nothing."""
    low, high = (-np.inf, *age_bounds_years), (*age_bounds_years, np.inf)
    bands = [
        f"under {b:g}" if a == -np.inf else (f"{a:g} and over" if b == np.inf else f"{a:g} to under {b:g}")
        for a, b in zip(low, high, strict=True)
    ]
    told = {
        "age": [bands[int(np.digitize(age, age_bounds_years))] for age in scans["age_years"]],
        "sex": scans["sex"].map({"F": "women", "M": "men"}),
        "field strength": scans["field_strength_t"].map(lambda t: f"{round(2 * t) / 2:g} T", na_action="ignore"),
        "manufacturer": scans["manufacturer"].map(maker, na_action="ignore"),
        "site": scans["site"],
        "APOE ε4": scans["apoe4"].map({0: "none", 1: "one copy", 2: "two copies"}),
    }
    return pd.DataFrame(told, index=scans.index).astype(object).fillna(UNKNOWN).astype(str)


def maker(name: str) -> str:
    """A manufacturer in one spelling: `SIEMENS` and `Siemens Healthineers` are Siemens."""
    words = name.lower().replace("_", " ").split()
    return MAKERS.get(words[0], name) if words else UNKNOWN


def _lines(group: Group, told: pd.DataFrame, settings: config.Subgroups) -> Iterator[dict]:
    """Lines of `SUBGROUPS` of one test set, with the columns se and df of the gap, and its family not yet told."""
    masks = {(EVERYONE, EVERYONE): np.ones(len(told), bool)}
    masks |= {(f, str(g)): (told[f] == g).to_numpy() for f in FACTORS for g in sorted(told[f].unique())}
    notes = {key: _why_not(group, mask, settings) for key, mask in masks.items()}
    scored = [key for key in masks if not notes[key]]
    told_by = _scores(group, np.array([masks[key] for key in scored]).T, settings) if scored else ()
    seen: set[tuple[str, bytes]] = set()
    for (factor, name), mask in masks.items():
        at = scored.index((factor, name)) if not notes[factor, name] else None
        paired = at is not None and (factor, (~mask).tobytes()) not in seen and not _why_not(group, ~mask, settings)
        seen.add(
            (factor, mask.tobytes())
        )  # of two groups that make up everyone the second's gap is the first's, turned
        sizes = [len(np.unique(group.subjects[m])) for m in (mask, ~mask)]
        for model in group.models:
            seeds = group.seeds_of(model)
            for metric in settings.metrics:
                line = {"model": model, **group.place, "factor": factor, "group": name, "metric": metric}
                line |= {"level": settings.level, "n_scans": int(mask.sum()), "n_subjects": sizes[0]}
                line |= {
                    "note": "everyone" if factor != EVERYONE and mask.all() else notes[factor, name],
                    "se": np.nan,
                    "df": np.nan,
                    "gap": np.nan,
                }
                if at is not None:
                    place = np.s_[seeds, :, GROUPED.index(metric), at]
                    (own, rest), (drawn, drawn_rest), (fewer, _) = (part[place].mean(axis=0) for part in told_by)
                    line["value"] = own[0]
                    line["low"], line["high"] = interval(drawn, level=settings.level, without=fewer)
                if paired:
                    line |= {"gap": own[0] - rest[0], "se": _spread(drawn - drawn_rest), "df": min(sizes) - 1}
                yield line


def _why_not(group: Group, mask: np.ndarray, settings: config.Subgroups) -> str | None:
    """Why a group of scans is not scored, without telling a small count; None where it is."""
    if len(np.unique(group.subjects[mask])) < settings.min_subjects:
        return f"fewer than {settings.min_subjects} subjects"
    per_class = [len(np.unique(group.subjects[mask & (group.labels == c)])) for c in range(3)]
    if min(per_class) < settings.min_class:
        return f"fewer than {settings.min_class} subjects of a class"
    return None


def _scores(group: Group, masks: np.ndarray, settings: config.Subgroups) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the groups in `masks` (n_scans, n_groups) bool: their scores and the others', those of the draws, and without each subject; all (n_predictions, 2, n_scores, n_groups, n)."""

    def both(weights: np.ndarray) -> np.ndarray:
        return np.array([grouped_scores(group.labels, p, weights, masks) for p in group.predictions.values()])

    draws = draw(both, group.subjects, draws=settings.draws, seed=settings.seed)
    return both(np.ones((1, len(group.labels)))), draws, without_each(both, group.subjects)


def _spread(values: np.ndarray) -> float:
    """Standard deviation of the draws that are defined; NaN where fewer than half are."""
    defined = values[np.isfinite(values)]
    return float(np.std(defined, ddof=1)) if 2 * len(defined) >= len(values) else float("nan")


def holm(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """The table with every gap's interval, alone and in the family, p-values and flag; needs the columns gap, se and df.

    Of m gaps in the order of their p-values the i-th is tested at (1 − level) / (m − i + 1); the first that holds zero ends it, and all after it are tested
    at its level.
    """
    table = table.assign(flagged=pd.Series([None] * len(table), index=table.index, dtype=object))
    open_ = table.index[(table["se"].astype(float) > 0) & table["gap"].notna()]
    gap, se, df = (table.loc[open_, name].to_numpy(float) for name in ("gap", "se", "df"))
    p = 2 * stats.t.sf(np.abs(gap) / se, df)
    order, remaining = np.argsort(p, kind="stable"), len(p) - np.arange(len(p))
    p_holm = np.empty(len(p))
    p_holm[order] = np.minimum(np.maximum.accumulate(p[order] * remaining), 1) if len(p) else []
    flagged = p_holm < 1 - level
    tested = np.where(flagged[order], remaining, max(len(p) - flagged.sum(), 1))
    alpha = np.empty(len(p))
    alpha[order] = (1 - level) / tested
    half, wide = (stats.t.isf(a / 2, df) * se for a in (1 - level, alpha))
    for name, values in (("p", p), ("p_holm", p_holm), ("gap_low", gap - half), ("gap_high", gap + half)):
        table.loc[open_, name] = values
    table.loc[open_, "family_low"], table.loc[open_, "family_high"] = gap - wide, gap + wide
    table.loc[open_, "flagged"] = np.where(flagged, "yes", "no")
    return table


def suppressed(table: pd.DataFrame, min_cell: int) -> pd.DataFrame:
    """The table without counts of fewer than `min_cell` subjects, nor one that could be had by subtracting from everyone's.

    A single blank count of a factor would be what is left of the whole: then the next smallest is blank, too.
    """
    table = table.copy()
    for place, rows in table.groupby(["cohort", "split", "factor"], sort=False):
        sizes = rows.groupby("group")["n_subjects"].first().sort_values(kind="stable")
        small = int((sizes < min_cell).sum())
        hidden = sizes.index[: small + (small == 1)] if place[2] != EVERYONE else sizes.index[:small]
        table.loc[rows.index[rows["group"].isin(hidden)], ["n_scans", "n_subjects"]] = np.nan
        few = rows.index[rows["group"].isin(sizes.index[:small])]
        table.loc[few, "note"] = f"fewer than {min_cell} subjects"
    return table
