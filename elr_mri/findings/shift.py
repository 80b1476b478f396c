"""How the people and scans that a model is tested on differ from those that it was trained on.

Every quantity is compared as a standardised mean difference: mean there minus mean in training, by the root of the mean of the two variances (Austin,
Stat Med 2009); of a share the same, with 0 and 1. Intervals are percentiles over subject-clustered draws of both sides. One number
says what all of them tell together: how well a linear classifier (ridge), cross-fitted by subject, knows from age, sex,
volumes and intensities which side a scan is from (a two-sample test, Lopez-Paz & Oquab, ICLR 2017); 0.5: not at all, 1: always.
What chance makes of it is seen by dealing the sides out anew among the subjects: an interval over given classifiers would be too narrow.
The diagnosis, the names of scanners and sites take no part in it, nor whether a value is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import interval, weight_chunks
from elr_mri.findings.predicted import UNSEEN
from elr_mri.findings.subgroups import maker
from elr_mri.imaging.labels import ROI_TABLE, TOTALS
from elr_mri.imaging.packed import Cache, by_channel, decode
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLITS, join_splits, read_scans
from elr_mri.scans.table import SPLIT as SPLIT_TABLE
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["shift"]
KINDS = ("people", "scanner", "volumes", "intensities", "all together")
#: The line of the classifier; its `difference` is an AUC, and `chance` what it stays below by chance alone, as often as `level` says.
TOGETHER = "two-sample AUC"
#: Places along each axis that a scan's intensities are read from, at least and evenly spaced.
N_ALONG = 32
PERCENTILES = (5, 50, 95)
#: How often the sides are dealt out at random, to see what chance makes of the AUC.
PERMUTATIONS = 300
#: What the classifier may look at besides `volumes` and `intensities`.
KNOWN = ("age in years", "women")

#: A quantity on both sides (`_there`: where tested), their standardised difference with its interval; blank where too few people would be told of.
SHIFT = Schema(
    name="shift",
    version=1,
    key=("cohort", "split", "quantity"),
    columns=(
        Column("cohort"),
        Column("split", allowed=SPLITS),
        Column("kind", allowed=KINDS),
        Column("quantity"),
        *(Column(name, "number", required=False) for name in ("mean_train", "sd_train", "mean_there", "sd_there")),
        *(Column(name, "number", required=False) for name in ("difference", "low", "high")),
        Column("chance", "number", required=False, low=0, high=1),
        Column("level", "number", low=0, high=1),
        *(Column(name, "integer", required=False, low=0) for name in ("n_train", "n_there")),
        Column("note", required=False),
    ),
)


def shift(*, scans_path: Path, splits_path: Path, pack_dir: Path, settings: config.Shift, out_path: Path | str) -> Path:
    """Write the table `SHIFT`: test and external scans against the training scans, of those that are packed; returns its path."""
    scans = join_splits(read_scans(scans_path), SPLIT_TABLE.read(splits_path))
    cache = Cache.read(pack_dir)
    scans = scans[scans["scan_id"].isin(cache.index["scan_id"]) & scans["split"].isin(("train", *UNSEEN))]
    if not (scans["split"] == "train").any():
        raise BadInput(
            expected="packed training scans to compare with",
            got="none",
            where=f"{splits_path}, {pack_dir}",
            fix="Run `elr-mri pack` and `elr-mri split` on this scan table.",
        )
    told = pd.concat(
        [people(scans), *(part.reindex(scans["scan_id"]) for part in measured(pack_dir, cache, scans))], axis=1
    )
    kinds = {name: kind for kind, names in _kinds(told).items() for name in names}
    here, lines = (scans["split"] == "train").to_numpy(), []
    for (cohort, split), rows in scans[~here].groupby(["cohort", "split"]):
        there = scans["scan_id"].isin(rows["scan_id"]).to_numpy()
        sides = [(told[mask], scans.loc[mask, "subject_id"].to_numpy()) for mask in (here, there)]
        lines += [{"cohort": cohort, "split": split, **line} for line in _lines(*sides, kinds, settings)]
    SHIFT.write(pd.DataFrame(lines, columns=[c.name for c in SHIFT.columns]), out_path)
    inputs = {str(path): provenance.digest_file(path) for path in (scans_path, splits_path)}
    inputs[str(pack_dir)] = cache.digest()
    provenance.record(out_path, step="shift", version=VERSION, settings=settings, inputs=inputs)
    return Path(out_path)


def people(scans: pd.DataFrame) -> pd.DataFrame:
    """What the scan table tells of each scan, by scan_id: numbers, and shares as 0 and 1; NaN where it is unknown."""

    def share(column: str, *values: object) -> pd.Series:
        return scans[column].isin(values).astype(float).where(scans[column].notna())

    out = {"age in years": scans["age_years"], "women": share("sex", "F")}
    out |= {name: share("diagnosis", name) for name in CLASSES}
    out["APOE ε4 carriers"] = share("apoe4", 1, 2)
    out["MMSE"] = scans["mmse"]
    out["3 T"] = (scans["field_strength_t"] > 2.5).astype(float).where(scans["field_strength_t"].notna())
    makers = scans["manufacturer"].map(maker, na_action="ignore")
    for name in sorted(makers.dropna().unique()):
        out[f"scanner by {name}"] = (makers == name).astype(float).where(makers.notna())
    return pd.DataFrame({name: values.to_numpy(float) for name, values in out.items()}, index=scans["scan_id"])


def measured(pack_dir: Path, cache: Cache, scans: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Volumes in cm³ and intensities within the brain of the packed scans, by scan_id."""
    table = ROI_TABLE.read(Path(pack_dir) / "roi_volumes.tsv").set_index("scan_id")
    volumes = {
        f"{name.replace('intracranial', 'intracranial volume')}, cm³": table[name] / 1000
        for name in ("intracranial", *TOTALS)
    }
    rows = cache.index.set_index("scan_id")["row"].reindex(scans["scan_id"])
    numbers = [intensities(cache.volumes[row], cache) for row in rows]
    return pd.DataFrame(volumes, index=table.index), pd.DataFrame(numbers, index=list(scans["scan_id"]))


def intensities(stored: np.ndarray, cache: Cache) -> dict[str, float]:
    """Numbers of one stored scan's intensities within the brain (above 0; the median of white matter is 1), from every n-th voxel along each axis.

    Reads single slices, so that a large cache is streamed.
    """
    channels = by_channel(stored)[cache.meta["channels"].index("T1w")]
    values = decode(channels[tuple(slice(None, None, max(1, n // N_ALONG)) for n in channels.shape)]).ravel()
    brain = values[values > 0]
    if not len(brain):
        return {}
    at = dict(zip(PERCENTILES, np.percentile(brain, PERCENTILES), strict=True))
    named = {f"intensity, {p}th percentile": float(value) for p, value in at.items()}
    return {"intensity, mean": float(brain.mean()), "intensity, sd": float(brain.std()), **named, "brain, share of the grid": len(brain) / len(values)}  # fmt: skip


def _kinds(told: pd.DataFrame) -> dict[str, list[str]]:
    """The quantities that are known of any scan, by kind."""
    known = [name for name in told.columns if told[name].notna().any()]
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS[:-1]}
    for name in known:
        if name.endswith("cm³"):
            kinds["volumes"].append(name)
        elif name.startswith(("intensity", "brain, share")):
            kinds["intensities"].append(name)
        else:
            kinds["scanner" if name == "3 T" or name.startswith("scanner by") else "people"].append(name)
    return kinds


def _lines(train: tuple, there: tuple, kinds: dict[str, str], settings: config.Shift) -> Iterator[dict]:
    """Lines of `SHIFT` of one test set; a side is its quantities (n_scans, …) and subjects (n_scans,)."""
    names = list(kinds)
    sides = [
        moments(values[names].to_numpy(float), subjects, settings.draws, settings.seed + place)
        for place, (values, subjects) in enumerate((train, there))
    ]
    differences = standardised(*sides)  # (1 + n_draws, n_quantities): the first row is the point
    too_few = hidden([(values[names], subjects) for values, subjects in (train, there)], settings.min_cell)
    for place, name in enumerate(names):
        line = {"kind": kinds[name], "quantity": name, "level": settings.level}
        if name in too_few:
            yield {**line, "note": f"fewer than {settings.min_cell} subjects"}
            continue
        for side, (mean, variance), (values, _) in zip(("train", "there"), sides, (train, there), strict=True):
            line |= {f"mean_{side}": mean[0, place], f"sd_{side}": np.sqrt(variance[0, place]), f"n_{side}": int(values[name].notna().sum())}  # fmt: skip
        line["difference"] = differences[0, place]
        line["low"], line["high"] = interval(differences[1:, place], level=settings.level)
        if not np.isfinite(line["difference"]):
            line["note"] = (
                "unknown on one side" if 0 in (line["n_train"], line["n_there"]) else "no spread on either side"
            )
        yield line
    yield {
        "kind": KINDS[-1],
        "quantity": TOGETHER,
        "level": settings.level,
        **two_sample(train, there, kinds, settings),
    }


def moments(values: np.ndarray, subjects: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every quantity (n_scans, k) over its known values, for all scans and then for each draw of subjects: two (1 + draws, k)."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = filled.sum(axis=0) / known.sum(axis=0)  # squares of large numbers would lose their digits
        off = np.where(known, filled - centre, 0)
        sums = [
            (w @ known, w @ off, w @ off**2)
            for w in (np.ones((1, len(values))), *weight_chunks(list(subjects), draws=draws, seed=seed))
        ]
        n, first, second = (np.concatenate(parts) for parts in zip(*sums, strict=True))
        return first / n + centre, np.maximum(second / n - (first / n) ** 2, 0)


def standardised(train: tuple[np.ndarray, np.ndarray], there: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Mean there minus mean in training, by the root of the mean variance; 0 where nothing differs, NaN where only constants do."""
    difference, spread = there[0] - train[0], np.sqrt((train[1] + there[1]) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(difference == 0, 0.0, np.where(spread > 0, difference / spread, np.nan))


def hidden(sides: list[tuple[pd.DataFrame, np.ndarray]], min_cell: int) -> set[str]:
    """Shares (0 and 1) that would tell of fewer than `min_cell` subjects; of shares that add up to 1 the next smallest goes with a single one."""
    few: set[str] = set()
    sizes: dict[str, int] = {}
    for values, subjects in sides:
        for name in values:
            known = values[name].dropna()
            if not known.isin((0.0, 1.0)).all():
                few |= {name} if 0 < len(np.unique(subjects[values[name].notna()])) < min_cell else set()
                continue
            counts = [len(np.unique(subjects[(values[name] == v).to_numpy()])) for v in (0.0, 1.0)]
            few |= {name} if 0 < min(counts) < min_cell or 0 < sum(counts) < min_cell else set()
            sizes[name] = min(sizes.get(name, counts[1]), counts[1])
    makers = [name for name in sizes if name.startswith("scanner by")]
    for family in (list(CLASSES), makers):
        if len(few.intersection(family)) == 1 and len(family) > 1:
            few.add(min((n for n in family if n in sizes and n not in few), key=sizes.__getitem__))
    return few


def two_sample(train: tuple, there: tuple, kinds: dict[str, str], settings: config.Shift) -> dict[str, object]:
    """How well a classifier tells the sides apart: `difference` is its AUC on scans of subjects that it was not fitted to."""
    names = [name for name, kind in kinds.items() if kind in ("volumes", "intensities") or name in KNOWN]
    names = [n for n in names if all(values[n].notna().any() for values, _ in (train, there))]
    sizes = [len(np.unique(subjects)) for _, subjects in (train, there)]
    if min(sizes) < 2 * settings.folds or not names:
        return {
            "note": f"fewer than {2 * settings.folds} subjects on a side" if names else "nothing known on both sides"
        }
    values = np.concatenate([side[0][names].to_numpy(float) for side in (train, there)])
    side = np.repeat([0.0, 1.0], [len(train[0]), len(there[0])])
    people = np.concatenate([np.char.add(f"{k} ", s[1].astype(str)) for k, s in enumerate((train, there))])
    cuts = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    folds = list(cuts.split(values, side, people))
    sides = np.column_stack([side, *swapped(side, people, folds, settings.seed)])
    right, pairs = np.zeros(sides.shape[1]), np.zeros(sides.shape[1])
    for fit, judge in folds:
        model = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), Ridge())
        ranks = rankdata(model.fit(values[fit], sides[fit]).predict(values[judge]), axis=0)
        n = sides[judge].sum(axis=0)
        right += (ranks * sides[judge]).sum(axis=0) - n * (n + 1) / 2
        pairs += n * (len(judge) - n)  # of one fold: each fold's classifier has a scale of its own
    aucs = right / pairs
    chance = float(np.quantile(aucs[1:], settings.level))
    return {"difference": float(aucs[0]), "chance": chance, "n_train": int((side == 0).sum()), "n_there": int(side.sum())}  # fmt: skip


def swapped(side: np.ndarray, people: np.ndarray, folds: list, seed: int) -> Iterator[np.ndarray]:
    """The side of every scan (n_scans,) as chance would have it: dealt out anew among the subjects of each fold, `PERMUTATIONS` times."""
    rng = np.random.default_rng(seed)
    _, first, of_scan = np.unique(people, return_index=True, return_inverse=True)
    fold = np.empty(len(side), int)
    for number, (_, judge) in enumerate(folds):
        fold[judge] = number
    for _ in range(PERMUTATIONS):
        dealt = side[first].copy()
        for number in range(len(folds)):
            own = np.flatnonzero(fold[first] == number)
            dealt[own] = rng.permutation(dealt[own])
        yield dealt[of_scan]
