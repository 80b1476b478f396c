"""Subjects into train, validation and test, stratified by class, age and sex; external cohorts are only tested on.

How subjects are shared out is told in `strata.py`; whom the ledger of earlier assignments names (`assigned.py`) stays
where it is, and only the others are drawn. Where the config gives published split tables, these are the split
(`published.py`), and the ledger is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.scans import assigned, published, strata
from elr_mri.scans.table import SPLIT, UNUSED, join_splits, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["split"]


def split(
    scans_path: Path,
    settings: config.Split,
    external: Sequence[str],
    output: Path,
    *,
    assigned_path: Path | None = None,
) -> None:
    """Write `splits.tsv`: cohort, subject_id, split, fold (blank for test and external subjects).

    Parameters
    ----------
    external : names of the cohorts that are never trained on
    assigned_path : the ledger of assignments, read where it is there and written anew; None: nothing is remembered
    """
    scans, output = read_scans(scans_path), Path(output)
    _check_external(scans, external, where=str(scans_path))
    beside, inputs, earlier = {}, [], assigned.read_earlier(None)
    if settings.published:
        splits, beside = published.assign(scans, settings, external)
        inputs = list(published.tables(settings.published).values())
    else:
        earlier = assigned.read_earlier(assigned_path)
        inputs = [assigned_path] if len(earlier) else []
        splits = assign(scans, settings, external, earlier)
    check_no_leak(scans, splits, external)
    digests = {str(path): provenance.digest_file(path) for path in (scans_path, *inputs)}
    if assigned_path and not settings.published:
        assigned.tell(earlier, splits, settings, assigned_path)
        # First the ledger: a crash between the two then repeats the draw, and cannot forget it.
        assigned.ASSIGNED.write(assigned.with_new(earlier, splits, settings), assigned_path)
    published.forget(output)
    for path, schema, rows in [*((output.with_name(n), *told) for n, told in beside.items()), (output, SPLIT, splits)]:
        schema.write(rows, path)
        provenance.record(
            path,
            step="split",
            version=VERSION,
            inputs=digests,
            settings={"split": settings.model_dump(mode="json"), "external": sorted(external)},
        )


def assign(
    scans: pd.DataFrame, settings: config.Split, external: Sequence[str], earlier: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The split table of a scan table: one row per cohort and subject, by subject_id.

    Parameters
    ----------
    earlier : the ledger (`assigned.ASSIGNED`); its subjects keep split and fold
    """
    earlier = assigned.read_earlier(None) if earlier is None else earlier
    people = scans.sort_values(["subject_id", "months", "cohort", "scan_id"]).drop_duplicates(["cohort", "subject_id"])
    inside = ~people["cohort"].isin(external)
    ordered = strata.in_order(people[inside].drop_duplicates("subject_id"), settings.seed)
    shares = {
        "train": 1 - settings.val_share - settings.test_share,
        "val": settings.val_share,
        "test": settings.test_share,
    }
    chosen = strata.draw(ordered, shares, assigned.splits_of(earlier))
    _check_filled(chosen, shares, len(ordered))
    folds = pd.Series(dtype=object)
    if settings.n_folds:
        learning = ordered[ordered["subject_id"].map(chosen) != "test"]
        equal = dict.fromkeys(range(settings.n_folds), 1 / settings.n_folds)
        folds = strata.draw(learning, equal, assigned.folds_of(earlier, settings.n_folds))
    out = people[["cohort", "subject_id"]].copy()
    out["split"] = people["subject_id"].map(chosen).where(inside, "external")
    out["fold"] = people["subject_id"].map(folds).astype("Int64")
    return out.sort_values(["cohort", "subject_id"]).reset_index(drop=True)


def check_no_leak(scans: pd.DataFrame, splits: pd.DataFrame, external: Sequence[str]) -> None:
    """Prove that no subject and no image stands in two splits, that all have one, and that external means external."""

    def refuse(expected: str, got: str) -> None:
        raise BadInput(expected=expected, got=got, where="splits", fix="Nothing may be learned from a tested subject.")

    per_subject = splits.groupby("subject_id")["split"].nunique()
    if (per_subject > 1).any():
        refuse("every subject in one split", f"{per_subject.idxmax()} in {per_subject.max()}")
    joined = scans.merge(splits, on=["cohort", "subject_id"], how="left")
    if joined["split"].isna().any():
        refuse("a split for every subject", f"none for {joined.loc[joined['split'].isna(), 'subject_id'].iloc[0]}")
    used = join_splits(scans, splits)
    per_image = used[used["split"] != UNUSED].groupby("image_path")["split"].nunique()
    if (per_image > 1).any():
        refuse("every image in one split", f"{per_image.idxmax()} in {per_image.max()}")
    astray = joined[(joined["split"] == "external") != joined["cohort"].isin(external)]
    if len(astray):
        refuse(
            "external cohorts in split external, and no others",
            f"{astray['subject_id'].iloc[0]} in {astray['split'].iloc[0]}",
        )


def _check_external(scans: pd.DataFrame, external: Sequence[str], *, where: str) -> None:
    unknown = sorted(set(external) - set(scans["cohort"]))
    if unknown:
        raise BadInput(
            expected="external cohorts that have scans",
            got=unknown[0],
            where=where,
            fix=f"The table's cohorts are {', '.join(sorted(set(scans['cohort'])))}.",
        )


def _check_filled(chosen: pd.Series, shares: dict[str, float], n_subjects: int) -> None:
    """Every split that was asked for has a subject, unless all cohorts are external."""
    empty = [name for name, share in shares.items() if share > 0 and not (chosen == name).any()]
    if empty and n_subjects:
        raise BadInput(
            expected=f"enough subjects for split {empty[0]} at a share of {shares[empty[0]]:g}",
            got=f"{n_subjects} subjects",
            where="config, key split",
            fix="Raise the share, or add subjects.",
        )
