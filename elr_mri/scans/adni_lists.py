"""What ADNI tells about images beside their paths: collection and search tables, sidecar XML, the list of the withdrawn.

An image list has any name and any columns (the search export holds what was ticked); it is known by its columns. With
image ids its rows belong to images; without, a row belongs to the images of its subject and description.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from elr_mri.scans import t1
from elr_mri.scans.adni_columns import COLUMNS, is_image_list, read_releases, sexes
from elr_mri.scans.cohort import mark
from elr_mri.scans.download import dates, numbers, read_table
from elr_mri.scans.imagepath import is_missing
from elr_mri.scans.visits import YEAR_DAYS

_FACTS = ("ptid", "date", "sex", "age", "field", "manufacturer", "phase")
#: A sidecar larger than this is not a sidecar.
_MAX_XML_BYTES = 2**20
_IN_XML = {
    "date": r"<dateAcquired>\s*([\d-]{10})",
    "sex": r"<subjectSex>\s*(\w+)",
    "age": r"<subjectAge>\s*([\d.]+)",
    "ptid": r"<subjectIdentifier>\s*(\w+)",
    "field": r'<protocol term="Field Strength">\s*([\d.]+)',
    "manufacturer": r'<protocol term="Manufacturer">([^<]*)<',
}


@dataclass(frozen=True)
class ImageLists:
    """Facts about images.

    Parameters
    ----------
    by_uid : DataFrame
        Indexed by image id: ptid, date, sex, age, field (T), manufacturer, phase.
    loose : DataFrame
        Rows of lists without image ids: the same columns and description.
    files : the tables that were read
    """

    by_uid: pd.DataFrame
    loose: pd.DataFrame
    files: tuple[Path, ...]


def read_image_lists(files: Sequence[Path]) -> ImageLists:
    """Read every table that is about images, and the sidecar XML of images that no table holds."""
    used = [path for path in files if is_image_list(path)]
    wanted = COLUMNS["image list"]
    rows = [read_table(path, wanted) for path in used]
    table = _facts(pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(wanted), dtype="str"))
    told = table.dropna(subset=["uid"])
    sidecars, read = _read_sidecars(files, known=set(told["uid"]))
    told = pd.concat([told, sidecars], ignore_index=True) if len(sidecars) else told
    whole = told["age"] == told["age"].round()  # one export has 74.3, another 74: the first is nearer
    by_uid = told.assign(whole=whole).sort_values("whole", kind="stable").groupby("uid")[list(_FACTS)].first()
    return ImageLists(by_uid, table[table["uid"].isna()].reset_index(drop=True), (*used, *read))


def _facts(table: pd.DataFrame) -> pd.DataFrame:
    """The text of lists as ids, dates, numbers."""
    protocol = table["protocol"].astype("str")
    field = table["field"].fillna(protocol.str.extract(r"Field Strength=([\d.]+)")[0]).astype("str")
    return pd.DataFrame(
        {
            "uid": image_ids(table["uid"]),
            "ptid": table["ptid"].astype("str").str.upper(),
            "description": table["description"],
            "date": dates(table["date"]),
            "sex": sexes(table["sex"]),
            "age": numbers(table["age"], low=18, high=120),
            "field": numbers(field.str.extract(r"([\d.]+)")[0], low=0.01, high=12),
            "manufacturer": table["maker"].fillna(protocol.str.extract(r"Manufacturer=([^;]+)")[0].str.strip()),
            "phase": table["phase"],
        }
    )


def image_ids(values: pd.Series) -> pd.Series:
    """Image ids as in file names without the I: `I495208`, `957990`, `957990.0`; `D12` (derived) keeps its letter."""
    found = values.astype("str").str.strip().str.extract(r"^(?:[Ii]?(\d+)|([Dd]\d+))(?:\.0)?$")
    return found[0].fillna(found[1].str.upper())


def _read_sidecars(files: Sequence[Path], *, known: set[str]) -> tuple[pd.DataFrame, list[Path]]:
    """Rows from IDA's XML (`ADNI_…_S13408_I45108.xml`); read as text, so that no entity in it is ever resolved."""
    rows, read = [], []
    for path in files:
        name = re.search(r"_I(\d+)\.xml$", path.name, re.I)
        if name is None or name[1] in known or is_missing(path) or path.stat().st_size > _MAX_XML_BYTES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = {ours: re.search(pattern, text) for ours, pattern in _IN_XML.items()}
        rows.append({"uid": name[1]} | {ours: (match and match[1].strip()) or None for ours, match in found.items()})
        read.append(path)
    empty = dict.fromkeys((*COLUMNS["image list"], "manufacturer"))
    table = pd.DataFrame([empty | row for row in rows], columns=list(empty), dtype="str")
    return _facts(table.assign(maker=table["manufacturer"])), read


def with_list(images: pd.DataFrame, lists: ImageLists) -> pd.DataFrame:
    """Add what the lists know: the date where the path has none, field strength, manufacturer, phase, sex, age."""
    told = lists.by_uid.reindex(images["image_uid"]).reset_index(drop=True)
    images["date"] = images["date"].fillna(told["date"])
    other = told["ptid"].notna() & images["ptid"].notna() & (told["ptid"] != images["ptid"])
    mark(images, other, "conflicting-ids", "the image list says " + told["ptid"].astype("str"))
    age, sex = _by_description(images, lists.loose)
    return images.assign(
        manufacturer=told["manufacturer"].astype(object).where(told["manufacturer"].notna(), None),
        list_field=told["field"],
        list_phase=told["phase"],
        list_age=told["age"].fillna(age),
        list_sex=told["sex"].where(told["sex"].notna(), sex),
    )


def _by_description(images: pd.DataFrame, loose: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Age and sex by rows that name only subject and description.

    The age is taken where it is one: where the rows agree within a year, and so do the images' dates.
    """
    key = pd.MultiIndex.from_arrays([images["ptid"], images["description"].map(t1.plain)])
    described = loose["description"].astype("str").map(t1.plain, na_action="ignore")
    ages = loose.assign(words=described).groupby(["ptid", "words"])["age"].agg(["min", "max"])
    days = images["date"].groupby([key.get_level_values(0), key.get_level_values(1)]).agg(["min", "max"])
    one_age = (ages["max"] - ages["min"]) <= 1
    one_time = (days["max"] - days["min"]).dt.days.reindex(key) <= YEAR_DAYS
    age = ages["min"].where(one_age).reindex(key).reset_index(drop=True).astype(float)
    sex = loose.groupby("ptid")["sex"].first().reindex(images["ptid"]).reset_index(drop=True)
    return age.where(one_time.to_numpy()), sex


def read_withdrawn(files: Sequence[Path]) -> tuple[set[str], set[str]]:
    """Image ids and series ids in DELMRSCANS, whose id column may hold either (`I45108`, `S13408`)."""
    ids = read_releases(files, "DELMRSCANS", key=["uid"])["uid"]
    series = ids.astype("str").str.extract(r"^\s*[Ss](\d+)\s*$")[0]
    return set(image_ids(ids).dropna()), set(series.dropna())
