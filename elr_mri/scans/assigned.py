"""The ledger of assignments: who was put where, so that nobody moves when subjects are added.

One row per subject who was ever drawn, also of those who are gone since: a subject who returns, returns to its split.
`drawn_with` tells the settings of its draw. To draw anew, delete the file and run the step again.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri import config
from elr_mri.scans.schema import Column, Schema

ASSIGNED = Schema(
    name="assignment",
    version=1,
    key=("subject_id",),
    columns=(
        Column("subject_id"),
        Column("split", allowed=("train", "val", "test")),
        Column("fold", "integer", required=False, low=0),
        Column("n_folds", "integer", low=0),
        Column("drawn_with"),
    ),
)


def read_earlier(path: Path | None) -> pd.DataFrame:
    """The ledger at `path`; empty where there is none yet."""
    if path is None or not Path(path).is_file():
        return pd.DataFrame(columns=[column.name for column in ASSIGNED.columns])
    return ASSIGNED.read(path)


def drawn_with(settings: config.Split) -> str:
    """The settings that a draw of splits depends on, as text."""
    return f"seed {settings.seed}, val_share {settings.val_share}, test_share {settings.test_share}"


def splits_of(earlier: pd.DataFrame) -> dict[str, str]:
    """Subject -> split."""
    return dict(zip(earlier["subject_id"], earlier["split"], strict=True))


def folds_of(earlier: pd.DataFrame, n_folds: int) -> dict[str, int]:
    """Subject -> fold, of those whose fold was drawn for the same number of folds."""
    rows = earlier[(earlier["n_folds"] == n_folds) & earlier["fold"].notna() & (earlier["split"] != "test")]
    return {subject: int(fold) for subject, fold in zip(rows["subject_id"], rows["fold"], strict=True)}


def with_new(earlier: pd.DataFrame, splits: pd.DataFrame, settings: config.Split) -> pd.DataFrame:
    """The ledger with the subjects who were drawn now; an earlier row changes only in its fold, if that was drawn anew."""
    now = splits.loc[splits["split"] != "external", ["subject_id", "split", "fold"]].drop_duplicates("subject_id")
    told = dict(zip(earlier["subject_id"], earlier["drawn_with"], strict=True))
    now = now.assign(
        n_folds=settings.n_folds, drawn_with=[told.get(s, drawn_with(settings)) for s in now["subject_id"]]
    )
    stays = ~earlier["subject_id"].isin(now["subject_id"])
    if settings.n_folds == 0:  # no folds are asked for, so the earlier ones are not forgotten
        stays = pd.Series(True, index=earlier.index)
        now = now[~now["subject_id"].isin(earlier["subject_id"])]
    rows = [part for part in (earlier[stays], now) if len(part)]
    return pd.concat(rows or [earlier], ignore_index=True).sort_values("subject_id")


def tell(earlier: pd.DataFrame, splits: pd.DataFrame, settings: config.Split, assigned: Path) -> None:
    """Print how many subjects kept their split and how many are new, and what of the settings no longer matters."""
    inside = set(splits.loc[splits["split"] != "external", "subject_id"])
    outside = set(splits.loc[splits["split"] == "external", "subject_id"])
    known = set(earlier["subject_id"])
    print(
        f"split: {len(inside & known)} subjects keep their earlier split, {len(inside - known)} are drawn now; of the earlier"
        f" ones {len(known - inside - outside)} have no scan and {len(known & outside)} are external now"
    )
    others = sorted(set(earlier["drawn_with"]) - {drawn_with(settings)})
    if others:
        print(
            f"split: drawn earlier with {'; '.join(others)}, the config now says {drawn_with(settings)}: earlier"
            f" assignments are kept. To draw anew, delete {assigned} and run this step again (snakemake --forcerun split)."
        )
    refolded = earlier[earlier["subject_id"].isin(inside) & (earlier["split"] != "test")]
    n_moved = int((refolded["fold"].notna() & (refolded["n_folds"] != settings.n_folds)).sum())
    if n_moved and settings.n_folds:
        print(
            f"split: the number of folds is now {settings.n_folds}: the folds of {n_moved} earlier subjects are drawn anew."
        )
