"""What a page that leaves the house may not say: who someone is, when they were scanned, and counts so small that they point at someone.

The agreements of ADNI and NACC forbid passing on identifiers and data of single persons. So subjects and scans have codes here, other
people's words are freed of ids and dates, and counts of 1 to 4 are not told. The key to the codes is a table of its own, which stays where
the data is. `report.in_house` shows everything.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from elr_mri import provenance
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES
from elr_mri.sections.findings import FEWEST

SMALL, HIDDEN, GONE = f"<{FEWEST}", "hidden", "…"
#: Dates, in the forms in which folders, tables and file names write them.
DATES = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-_/.](?:0?[1-9]|1[0-2])[-_/.](?:0?[1-9]|[12]\d|3[01])(?:[T_ ]\d\d[-_:]\d\d(?:[-_:]\d\d)?(?:\.\d+)?)?"
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)?\d\d"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d*"
    r"|(?:0?[1-9]|[12]\d|3[01])[- ](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[- ](?:19|20)?\d\d)(?!\d)",
    re.IGNORECASE,
)
#: An absolute path up to its last part: it tells who works where.
FOLDERS = re.compile(r"(?<![\w./~-])(?:~|/|[A-Za-z]:\\)(?:[^\s\"'/\\]+[/\\])+")
#: Ids of ADNI and NACC, whether this study knows them or not.
IDS = re.compile(
    r"(?:sub-)?(?:(?:ADNI)?\d{3}_?S_?\d{3,5}|NACC\d{4,})(?:_ses-\w+)?|(?<![A-Za-z0-9])[IS]\d{4,}(?!\d)|(?<=\bRID )\d+|\b\d+(?:\.\d+){5,}", re.IGNORECASE
)  # fmt: skip
#: A shorter id is left in the words of other rows than its own: it would be found in every number.
MIN_ID = 4

#: Who is behind a code: a row per scan, and a row without one per subject that has none.
CODES = Schema(
    name="code",
    version=1,
    key=("cohort", "subject_id", "scan_id"),
    columns=(Column("cohort"), Column("subject_id"), Column("scan_id", required=False), Column("code")),
)


class Names:
    """How subjects and scans are called on the page, and other people's words without what names them.

    Parameters
    ----------
    codes : a table `CODES`; None: by their own ids, in the house
    known : further ids that no words may hold, such as those of images
    """

    def __init__(self, codes: pd.DataFrame | None, known: Iterable[str] = (), key: str = "") -> None:
        self.in_house, self._key = codes is None, key
        self._scans: dict[str, str] = {}
        self._subjects: dict[tuple[str, str], str] = {}
        self._known: list[str] = []
        if codes is None:
            return
        told = codes.dropna(subset=["scan_id"])
        self._scans = dict(zip(told["scan_id"], told["code"], strict=True))
        self._subjects = {
            (row.cohort, row.subject_id): row.code.partition("/")[0] for row in codes.itertuples(index=False)
        }
        names = {*self._scans, *(subject for _, subject in self._subjects), *known}
        names |= {name.removeprefix("sub-") for name in names}
        self._known = sorted((name for name in names if len(name) >= MIN_ID), key=len, reverse=True)

    def scan(self, scan_id: str) -> str:
        """A scan's name on the page."""
        return scan_id if self.in_house else self._scans.get(scan_id, "a scan")

    def subject(self, cohort: str, subject_id: str) -> str:
        """A subject's name on the page."""
        return subject_id if self.in_house else self._subjects.get((cohort, subject_id), "a subject")

    def words(self, text: str, *own: str) -> str:
        """Someone's words without ids and dates; `own` are ids that are looked for however short they are."""
        if self.in_house or not isinstance(text, str):
            return text
        for name in [*(name for name in self._known if name in text), *own]:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", GONE, text) if name else text
        return IDS.sub(GONE, DATES.sub(GONE, FOLDERS.sub("", text)))

    def numbered(self, sites: Iterable[str]) -> dict[str, str]:
        """Sites by number, in an order that nobody else can make: a site with few subjects may point at one."""
        if self.in_house:
            return {}
        return {
            site: f"no. {place}" for place, site in enumerate(sorted(sites, key=lambda one: _drawn(self._key, one)), 1)
        }


def names(scans: pd.DataFrame, notes: pd.DataFrame | None, path: Path, *, in_house: bool) -> Names:
    """The names of a study's subjects and scans; keeps the table of codes at `path`, in which earlier codes stay as they were.

    The order of new codes is drawn by a secret that is made once and kept beside them, in `key`: by anything that the page
    tells, who has the list of all ids could make the codes again.
    """
    if in_house:
        return Names(None)
    secret = path.with_name("key")
    if not secret.is_file():
        provenance.write_text(secret, secrets.token_hex(32) + "\n")
    key = secret.read_text(encoding="utf-8").strip()
    kept = CODES.read(path) if path.is_file() else None
    codes = coded(scans, notes, kept, key)
    CODES.write(codes, path)
    known = {name for column in ("image_uid", "session_id") for name in scans[column].dropna() if _tells(name)}
    known |= {part for folder in scans["image_path"] for part in Path(folder).parts if _tells(part)}
    known |= {str(folder) for folder in _homes(scans) if " " in str(folder)}  # which no pattern knows the end of
    return Names(codes, known, key)


def _homes(scans: pd.DataFrame) -> Iterator[Path]:
    """The folder that holds all images of a cohort, where there is one."""
    for _, paths in scans.groupby("cohort")["image_path"]:
        folders = {str(Path(path).parent) for path in paths}
        if len({os.path.isabs(folder) for folder in folders}) == 1:
            yield Path(os.path.commonpath(folders))


def _drawn(key: str, name: str) -> bytes:
    """What a name is ordered by."""
    return hmac.new(key.encode(), name.encode(), hashlib.sha256).digest()


def _tells(name: str) -> bool:
    """Whether a part of a path or a session's id may name someone: it holds a number of three digits or more, and not months alone."""
    return bool(re.search(r"\d{3}", name)) and not re.fullmatch(r"ses-M\d{3}", name)


def coded(scans: pd.DataFrame, notes: pd.DataFrame | None, kept: pd.DataFrame | None, key: str) -> pd.DataFrame:
    """The table `CODES`: `ADNI-007` a subject, `ADNI-007/2` its second scan; who has a code keeps it."""
    rows = [scans[["cohort", "subject_id", "scan_id", "months"]]]
    if notes is not None:
        others = notes[["cohort", "subject_id"]].drop_duplicates()
        here = scans[["cohort", "subject_id"]].drop_duplicates()
        others = others.merge(here, how="left", indicator=True).query("_merge == 'left_only'")
        rows.append(others[["cohort", "subject_id"]].assign(scan_id=None, months=0.0))
    table = pd.concat([part for part in rows if len(part)], ignore_index=True).sort_values(["months", "scan_id"])
    empty = pd.DataFrame(columns=["cohort", "subject_id", "scan_id", "code"])
    told = {(row.cohort, row.subject_id): row.code.partition("/")[0] for row in (empty if kept is None else kept).itertuples(index=False)}  # fmt: skip
    scan_codes = {} if kept is None else dict(zip(kept["scan_id"], kept["code"], strict=True))
    new = [pair for pair in dict.fromkeys(zip(table["cohort"], table["subject_id"])) if pair not in told]
    new.sort(key=lambda pair: _drawn(key, "\t".join(pair)))
    taken = {cohort: 0 for cohort, _ in new}
    for (cohort, _), code in told.items():
        taken[cohort] = max(taken.get(cohort, 0), int(code.rpartition("-")[2]))
    for cohort, subject in new:
        taken[cohort] += 1
        told[cohort, subject] = f"{cohort}-{taken[cohort]:04d}"
    last = {}
    for code in scan_codes.values():
        subject, _, number = str(code).partition("/")
        last[subject] = max(last.get(subject, 0), int(number or 0))
    codes = []
    for row in table.itertuples(index=False):
        subject = told[row.cohort, row.subject_id]
        if row.scan_id is None or row.scan_id != row.scan_id:
            codes.append(subject)
            continue
        if row.scan_id not in scan_codes:
            last[subject] = last.get(subject, 0) + 1
            scan_codes[row.scan_id] = f"{subject}/{last[subject]}"
        codes.append(scan_codes[row.scan_id])
    made = table.assign(code=codes)[["cohort", "subject_id", "scan_id", "code"]]
    if kept is not None:  # who left the study keeps the code, so that no one else gets it
        made = pd.concat([made, kept], ignore_index=True).drop_duplicates(["cohort", "subject_id", "scan_id"])
    return made.sort_values("code", ignore_index=True)


def told(counts: Mapping[str, int], *, total: bool = True) -> dict[str, str]:
    """Counts as texts: those of 1 to 4 as `<5`; where they could be had from the known `total`, the next smallest is hidden, too."""
    small = {name for name, n in counts.items() if 0 < n < FEWEST}
    texts = {name: SMALL if name in small else f"{n:,}" for name, n in counts.items()}
    sure = sum(counts[name] for name in small) in (len(small), len(small) * (FEWEST - 1))  # all ones, or all fours
    if total and small and (len(small) == 1 or sure):
        rest = {name: n for name, n in counts.items() if name not in small and n}
        if rest:
            texts[min(rest, key=lambda name: rest[name])] = HIDDEN
    return texts


def enough(table: pd.DataFrame, confusion: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """The rows of groups (`cohort`, `split`) in which no class has so few scans, or people, that what is told by class would point at someone.

    confusion : the scored scans by class; counted : the packed ones and their people, as `accounting.account` tells them
    """
    counts = confusion.groupby(["model", "seed", "cohort", "split", "diagnosis"])["n_scans"].sum()
    small = counts[counts.map(few)].reset_index()[["cohort", "split"]]
    people = counted[counted["diagnosis"].notna() & counted["n_subjects"].map(few)]
    small = pd.concat([small, people[["cohort", "stage"]].rename(columns={"stage": "split"})]).drop_duplicates()
    where = table.merge(small, how="left", on=["cohort", "split"], indicator="known")["known"] == "left_only"
    return table[where.to_numpy()]


def tiny(results: pd.DataFrame) -> set[tuple[str, str]]:
    """The groups (cohort, split) of so few people that a score of theirs would tell of one of them."""
    groups = results.loc[results["n_subjects"].map(few), ["cohort", "split"]].drop_duplicates()
    return set(groups.itertuples(index=False, name=None))


def without(table: pd.DataFrame, groups: set[tuple[str, str]]) -> pd.DataFrame:
    """The rows of other groups (cohort, split) than these."""
    own = [key not in groups for key in zip(table["cohort"], table["split"], strict=True)]
    return table[pd.Series(own, index=table.index, dtype=bool)]


def few(n: int) -> bool:
    """Whether a count of people is too small to be told."""
    return 0 < n < FEWEST


def class_counts(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """A group's rows of one count per class, with `columns` as texts; the sum is known, so that one small class hides another.

    rows : a column `diagnosis`, one row for each of `CLASSES`, with any others left as they are but for small counts
    """
    out = rows.astype(dict.fromkeys(columns, object))
    classes = rows["diagnosis"].isin(CLASSES)
    for name in columns:
        told_here = told(dict(zip(rows.loc[classes, "diagnosis"], rows.loc[classes, name], strict=True)))
        out.loc[classes, name] = [told_here[diagnosis] for diagnosis in rows.loc[classes, "diagnosis"]]
        out.loc[~classes, name] = [SMALL if few(n) else f"{n:,}" for n in rows.loc[~classes, name]]
    return out
