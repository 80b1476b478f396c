"""The packed cache as its readers see it: every registered volume in one memory-mapped array.

    volumes.npy   (N, X, Y, Z), or (N, 2, X, Y, Z) with two channels; uint8 or float16, RAS+, the study grid
    index.tsv     row, scan_id, sha256 of the row's bytes, source: digest of what the row was made from
    meta.json     version, space, channels, template, affine, spacing, mappings of stored values, settings of the steps

`cache.pack` writes it (how, so that no kill leaves a mixture: `growing.py`), `Cache` reads it; nothing else knows the
files. This module is light: it opens no NIfTI and loads no registration.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.imaging.growing import current
from elr_mri.provenance import digest_json, read_json
from elr_mri.scans.schema import Column, Schema

#: Version of the contract; a reader refuses another.
CACHE_VERSION = 2

INDEX = Schema(
    name="cache index",
    version=2,
    key=("scan_id",),
    columns=(Column("row", "integer", low=0), Column("scan_id"), Column("sha256"), Column("source")),
)

#: Registered intensities: 0 outside the brain, 1 the median of white matter, clipped above this (scalp, vessels).
MAX_INTENSITY = 1.6
#: Logarithms of local volume ratios are clipped at ± this: a quarter and the fourfold of the template's volume.
MAX_LOG_JACOBIAN = math.log(4)

#: What the volumes of each `pack.space` hold, channel by channel.
CHANNELS = {"affine": ("T1w",), "warped": ("T1w",), "warped-jacobian": ("T1w", "log_jacobian")}
#: Range of each channel's values.
RANGES = {"T1w": (0.0, MAX_INTENSITY), "log_jacobian": (-MAX_LOG_JACOBIAN, MAX_LOG_JACOBIAN)}

#: What each stored type does to the values of each channel: stored = round(value × scale) + zero. The error of a stored
#: value is at most `error`: half a step of uint8, half a unit in the last place of float16. An unchanged volume
#: (log-Jacobian 0) is stored exactly, as 128; an error of 0.0055 is 0.55 % of a local volume.
MAPPINGS: dict[str, dict[str, dict[str, float]]] = {
    "T1w": {
        "uint8": {"scale": 255 / MAX_INTENSITY, "zero": 0, "error": MAX_INTENSITY / 510},
        "float16": {"scale": 1.0, "zero": 0, "error": 2.0**-11},
    },
    "log_jacobian": {
        "uint8": {"scale": 127 / MAX_LOG_JACOBIAN, "zero": 128, "error": MAX_LOG_JACOBIAN / 254},
        "float16": {"scale": 1.0, "zero": 0, "error": 2.0**-11},
    },
}


@dataclass(frozen=True, eq=False)
class Cache:
    """A packed cache: `volumes` (N, X, Y, Z) or (N, 2, X, Y, Z) as stored, memory-mapped; `index`; `meta` as in
    meta.json."""

    volumes: np.ndarray
    index: pd.DataFrame
    meta: dict[str, Any]
    folder: Path

    @classmethod
    def read(cls, folder: Path | str) -> Cache:
        """Open a cache; raises `BadInput` where its version or its parts do not fit each other."""
        folder = Path(folder)
        missing = [name for name in ("volumes.npy", "index.tsv", "meta.json") if not current(folder, name).is_file()]
        if missing:
            refuse(folder, "volumes.npy, index.tsv and meta.json", f"no {', '.join(missing)}")
        meta = read_json(current(folder, "meta.json"))
        if meta.get("version") != CACHE_VERSION:
            refuse(folder, f"a cache of version {CACHE_VERSION}", f"version {meta.get('version')}")
        index = INDEX.read(current(folder, "index.tsv"))
        try:
            volumes = np.load(current(folder, "volumes.npy"), mmap_mode="r")
        except (OSError, ValueError) as problem:
            refuse(folder / "volumes.npy", "a whole NumPy array", str(problem))
        row = row_shape(meta["shape"], meta["channels"])
        # Rows beyond the index are those of an appending run that was stopped before it was done.
        if volumes.shape[1:] != row or len(volumes) < len(index) or str(volumes.dtype) != meta["dtype"]:
            told = (len(index), *row)
            refuse(folder, f"volumes of shape {told}, {meta['dtype']}", f"{volumes.shape}, {volumes.dtype}")
        if list(index["row"]) != list(range(len(index))):
            refuse(folder, "rows 0, 1, 2 … in index.tsv", "another order")
        return cls(volumes[: len(index)], index, meta, folder)

    def __len__(self) -> int:
        return len(self.index)

    def row(self, scan_id: str) -> int:
        """The row of a scan; raises `KeyError` for one that is not packed."""
        found = self.index.loc[self.index["scan_id"] == scan_id, "row"]
        if found.empty:
            raise KeyError(scan_id)
        return int(found.iloc[0])

    def volume(self, scan_id: str, channel: str = "T1w") -> np.ndarray:
        """One scan's values of a channel, (X, Y, Z) float32: intensities (white matter about 1) or log-Jacobians."""
        place = self.meta["channels"].index(channel)
        return decode(by_channel(self.volumes[self.row(scan_id)])[place], channel)

    def damaged(self) -> list[str]:
        """The scans whose stored bytes are not those that were packed, by the hash of every row."""
        told = zip(self.index["scan_id"], self.index["sha256"], self.volumes, strict=True)
        return [scan_id for scan_id, sha256, stored in told if digest_row(stored) != sha256]

    def validate(self) -> None:
        """Check the hash of every row; raises `BadInput` that names the damaged ones."""
        if names := self.damaged():
            refuse(
                self.folder / "volumes.npy",
                "every row as it was packed (sha256 in index.tsv)",
                f"other bytes in the rows of {', '.join(names)}",
                "Run `elr-mri pack` again with `pack.verify: true`, which makes damaged rows anew.",
            )

    def digest(self) -> str:
        """What a reader has seen, whatever the order of the rows: digest of meta.json and of every scan's row."""
        return digest_json([self.meta, sorted(zip(self.index["scan_id"], self.index["sha256"], strict=True))])


def row_shape(grid: list[int] | tuple[int, ...], channels: list[str] | tuple[str, ...]) -> tuple[int, ...]:
    """Shape of one stored scan: (X, Y, Z), or (n_channels, X, Y, Z) with more than one channel."""
    return (*((len(channels),) if len(channels) > 1 else ()), *grid)


def by_channel(stored: np.ndarray) -> np.ndarray:
    """Stored volumes (X, Y, Z) or (n_channels, X, Y, Z) as (n_channels, X, Y, Z)."""
    return stored.reshape(-1, *stored.shape[-3:])


def encode(volume: np.ndarray, dtype: str, channel: str = "T1w") -> np.ndarray:
    """Values (X, Y, Z) as stored in a cache of `dtype`; what lies outside the channel's range is clipped."""
    told = MAPPINGS[channel][dtype]
    scaled = np.clip(volume, *RANGES[channel]) * told["scale"] + told["zero"]
    return (np.rint(scaled) if dtype == "uint8" else scaled).astype(dtype)


def decode(stored: np.ndarray, channel: str = "T1w") -> np.ndarray:
    """The values of stored volumes of one channel, float32."""
    told = MAPPINGS[channel][str(stored.dtype)]
    return (np.asarray(stored, dtype=np.float32) - np.float32(told["zero"])) / np.float32(told["scale"])


def digest_row(stored: np.ndarray) -> str:
    """SHA-256 of a stored row's bytes, as they lie in volumes.npy."""
    return hashlib.sha256(np.ascontiguousarray(stored).data).hexdigest()


def refuse(where: Path, expected: str, got: str, fix: str = "Run `elr-mri pack` again.") -> None:
    """Raise `BadInput` about a cache."""
    raise BadInput(expected=expected, got=got, where=str(where), fix=fix)
