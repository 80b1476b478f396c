"""Scans and clinical visits brought together: the visit nearest in time, and its diagnosis."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elr_mri.scans.cohort import mark

#: Mean length of a year and of a month, in days.
YEAR_DAYS = 365.25
MONTH_DAYS = YEAR_DAYS / 12


def match_visits(images: pd.DataFrame, visits: pd.DataFrame, *, max_days: int, carry_forward_days: int) -> pd.DataFrame:
    """Give every image the visit nearest in time; images that get none, or no diagnosis, are excluded with the reason.

    Parameters
    ----------
    images : DataFrame
        subject, date (day of the scan), reason, detail.
    visits : DataFrame
        subject, date, diagnosis, reason (why there is no diagnosis), and any columns to hand on to the image
        (months, age_years, mmse …). Of two equally near visits the earlier is taken.
    max_days : largest distance between the scan and its visit
    carry_forward_days : where that visit's diagnosis is blank, the latest earlier one within so many days of the scan
        stands in for it (0: never), and `detail` says so.

    Returns
    -------
    `images` with the visit's columns; the visit's own date is `visit_date`.
    """
    images = images.reset_index(drop=True).copy()
    visits = (
        visits[visits["months"].between(0, 600)]
        .dropna(subset=["subject", "date"])
        .sort_values(["subject", "date"], kind="stable")
        .reset_index(drop=True)
    )
    days = visits["date"].to_numpy().astype("datetime64[D]").astype(int)
    told = visits["diagnosis"].notna().to_numpy()
    blank = ~told & (visits["reason"] == "no-diagnosis").to_numpy()  # another diagnosis is none to replace
    rows_of = visits.groupby("subject").indices
    nearest, carried = np.full(len(images), -1), np.full(len(images), -1)
    for i, (subject, date) in enumerate(zip(images["subject"], images["date"], strict=True)):
        rows = rows_of.get(subject)
        if rows is None or pd.isna(date):
            continue
        gap = int(np.datetime64(date, "D").astype(int)) - days[rows]
        best = int(np.argmin(np.abs(gap)))
        if abs(gap[best]) > max_days:
            continue
        nearest[i] = rows[best]
        earlier = rows[(gap >= 0) & (gap <= carry_forward_days) & told[rows]]
        if blank[nearest[i]] and carry_forward_days and len(earlier):
            carried[i] = earlier[-1]
    return _with_visit(images, visits, nearest, carried)


def _with_visit(images: pd.DataFrame, visits: pd.DataFrame, nearest: np.ndarray, carried: np.ndarray) -> pd.DataFrame:
    """Take over the columns of the nearest visit, and the diagnosis of the carried one where there is one."""
    mark(images, ~images["subject"].isin(visits["subject"]), "no-table-row")
    mark(images, images["date"].isna(), "no-date")
    mark(images, nearest < 0, "no-visit-near")
    handed = visits.rename(columns={"date": "visit_date", "reason": "visit_reason"}).drop(columns="subject")
    taken = handed.reindex(nearest).reset_index(drop=True)
    source = handed["diagnosis"].reindex(np.where(carried >= 0, carried, nearest)).reset_index(drop=True)
    taken["diagnosis"] = source.where(source.notna(), None)
    images = pd.concat([images.drop(columns=[c for c in taken.columns if c in images.columns]), taken], axis=1)
    origin = handed[["visit_date", "months"]].reindex(carried).reset_index(drop=True)
    images["carried_months"], images["carried_days"] = origin["months"], (images["date"] - origin["visit_date"]).dt.days
    images.loc[carried >= 0, "detail"] = "diagnosis carried forward from an earlier visit"
    for reason, rows in taken.loc[taken["diagnosis"].isna()].groupby("visit_reason").groups.items():
        mark(images, images.index.isin(rows), reason)
    return images


def carried_notes(images: pd.DataFrame) -> pd.DataFrame:
    """A note for every kept scan whose diagnosis is that of an earlier visit: subject, months, note."""
    kept = images[images["reason"].isna() & images["carried_months"].notna()]
    words = [
        f"{dx} carried forward from month {month:g}, {days:g} days before the scan"
        for dx, month, days in zip(kept["diagnosis"], kept["carried_months"], kept["carried_days"], strict=True)
    ]
    return kept[["subject", "months"]].assign(note=pd.Series(words, index=kept.index, dtype="str"))
