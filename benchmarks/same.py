"""Whether two finished studies are the same: every file of `results/`, less what tells when and how fast it was made."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pandas as pd

#: What a run writes for itself: what the steps printed, events of TensorBoard, the state to resume from, the secret behind the codes.
OWN = {"logs", "events", "state"}


def files(results: Path) -> dict[str, Path]:
    """Every file that a study is made of, by its path in `results`; hidden ones are locks and ledgers of ours."""
    found = {path.relative_to(results).as_posix(): path for path in results.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not OWN & set(Path(name).parts) and "/." not in f"/{name}"}


def content(path: Path) -> object:
    """What of a file must be the same: its bytes, unpacked, without seconds and times."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.name == "history.tsv":
        return pd.read_csv(path, sep="\t").drop(columns="seconds").to_csv()
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix in (".html", ".md", ".svg"):
        return re.sub(r"\d[\d.]* s\b|\d+ min\b|\d{4}-\d\d-\d\d(T[\d:.]+)?", "…", path.read_text(encoding="utf-8"))
    return path.read_bytes()


def _timeless(told: object) -> object:
    """JSON without the time that something took, digests of files that hold such times, and the folder that was written to."""
    if isinstance(told, dict):
        return {key: _timeless(value) for key, value in told.items() if key not in ("seconds", "inputs", "command")}
    return [_timeless(one) for one in told] if isinstance(told, list) else told


def differences(results: Path, others: Path) -> list[str]:
    """The files in which two studies differ, or which one of them lacks, with a word on how."""
    mine, theirs = files(results), files(others)
    told = [f"{name}: only in one" for name in sorted(mine.keys() ^ theirs.keys())]
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name].read_bytes() != theirs[name].read_bytes():
            try:
                if content(mine[name]) != content(theirs[name]):
                    told.append(f"{name}: other content")
            except (OSError, EOFError, ValueError) as problem:
                told.append(f"{name}: cannot be read ({problem})")
    return told


def leftovers(folder: Path) -> list[str]:
    """Half-written files that nobody cleared away."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".partial-*"))
