"""Whether anybody is tested on whom the models have seen: one image under two ids makes its ids one person.

`ingest` removes files that are byte for byte the same. The audit comes after `convert` and compares what the files
hold: the digest of the canonical array (`convert.digest_array`), which is the same however an image was stored (axes,
compression, integer or floating point). Ids that share an image are one person, also over a third id. A person in two
splits or two cohorts is a leak, and stops the run before anything is packed. The same image twice within one split of
one cohort is told and goes on.

Not seen: an image that was resampled or whose intensities were changed, and one person's different scans under two ids.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from elr_mri.config import Audit
from elr_mri.errors import BadInput
from elr_mri.provenance import digest_file, read_json, record
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import PARTS, SPLIT, UNUSED, join_splits, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["audit"]

AUDIT = Schema(
    name="audit",
    version=1,
    key=("scan_id",),
    columns=(
        Column("person", "integer", low=1),
        Column("image_sha256"),
        Column("scan_id"),
        Column("cohort"),
        Column("subject_id"),
        Column("split", allowed=PARTS),
        Column("verdict", allowed=("leak", "repeat")),
    ),
)


def audit(
    scans_path: Path | str, splits_path: Path | str, convert_dir: Path | str, settings: Audit, output: Path | str
) -> None:
    """Write `audit.tsv`: every scan whose image stands under another scan_id too, with the verdict on its person.

    Raises
    ------
    BadInput
        Where one person stands in two splits or cohorts, naming the first; the table is then `leaks.tsv` beside
        `output` (the workflow removes the output of a step that failed). With `on_leak: report` it is only printed.
    """
    scans = join_splits(read_scans(scans_path), SPLIT.read(splits_path))
    scans["image_sha256"] = [_digest(Path(convert_dir), scan_id) for scan_id in scans["scan_id"]]
    found = shared_images(scans)
    leaks = found[found["verdict"] == "leak"]
    unread = int(scans["image_sha256"].isna().sum())
    print(
        f"audit: {len(scans)} scans, {unread} of them not converted and not compared; {len(found)} share an image "
        f"with another ({len(leaks)} of people in two splits or cohorts)"
    )
    torn = Path(output).with_name("leaks.tsv")
    torn.unlink(missing_ok=True)
    if len(leaks):
        AUDIT.write(leaks, torn)
        fault = BadInput(
            expected="every person in one split of one cohort",
            got=_pairs(leaks),
            where=str(torn),
            fix="Remove one of the copies from its cohort, or set audit.on_leak to report.",
        )
        if settings.on_leak == "stop":
            raise fault
        print(f"audit: {fault}")
    AUDIT.write(found, output)
    inputs = {str(path): digest_file(path) for path in (scans_path, splits_path)}
    record(output, step="audit", version=VERSION, inputs=inputs, settings=settings)


def shared_images(scans: pd.DataFrame) -> pd.DataFrame:
    """The scans that share their image with another scan, as rows of `AUDIT`.

    Parameters
    ----------
    scans : DataFrame
        scan_id, cohort, subject_id, split, image_sha256 (missing: not compared).
    """
    seen = scans.dropna(subset=["image_sha256"])
    shared = seen[seen.duplicated("image_sha256", keep=False)].copy()
    ids = list(zip(shared["cohort"], shared["subject_id"], strict=True))
    images = shared.groupby("image_sha256", sort=False).indices.values()
    shared["person"] = people(ids, ([ids[k] for k in rows] for rows in images))
    homes = (shared["cohort"] + " " + shared["split"]).where(shared["split"] != UNUSED)
    torn = homes.groupby(shared["person"]).transform("nunique") > 1
    shared["verdict"] = torn.map({True: "leak", False: "repeat"})
    return shared.sort_values(["verdict", "person", "image_sha256", "scan_id"])[[c.name for c in AUDIT.columns]]


def people(ids: Sequence[Hashable], same: Iterable[Sequence[Hashable]]) -> list[int]:
    """The number, from 1, of the person behind every id; each group in `same` holds ids of one person (union–find)."""
    parent = {name: name for name in ids}

    def root(name: Hashable) -> Hashable:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for first, *others in same:
        for other in others:
            parent[root(other)] = root(first)
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(name), len(numbers) + 1) for name in ids]


def _digest(convert_dir: Path, scan_id: str) -> str | None:
    """Digest of a scan's canonical array; None for a scan that could not be converted."""
    return read_json(convert_dir / scan_id / f"{scan_id}_convert.json").get("sha256")


def _pairs(leaks: pd.DataFrame, *, most: int = 3) -> str:
    """The people of `leaks` in words, the first few by name."""
    told = [
        " and ".join(dict.fromkeys(f"{row.scan_id} ({row.cohort} {row.split})" for row in group.itertuples()))
        for _, group in leaks.groupby("person")
    ]
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return "one person as " + "; one as ".join(told[:most]) + more
