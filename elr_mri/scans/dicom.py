"""What the first bytes of DICOM files tell: which series each file belongs to, and which sequence that is.

A folder may hold several series (NACC's flat `mri100/DICOM/`). Listing (`archives.py`, `series.py`) makes an image of each,
and conversion takes the files of one; both part them here. Of a header nothing else is read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from elr_mri.scans import t1

#: A DICOM file says within this what it is.
HEAD_BYTES = 2**16

_STUDY, _SERIES, _FRAMES = (0x0020, 0x000D), (0x0020, 0x000E), (0x0028, 0x0008)
_TOLD = ((0x0008, 0x103E), (0x0018, 0x1030), (0x0018, 0x0023))
_UID = re.compile(r"\d[\d.]*", re.A)


class Part(NamedTuple):
    """One file of a folder: itself (a path or a zip's member), its name, its size in bytes and its first bytes."""

    file: Any
    name: str
    n_bytes: int
    head: bytes


@dataclass
class Whole:
    """One series of a folder: its UID (empty where no file tells one), what it is called, its files and their bytes."""

    uid: str
    told: str = ""
    files: list[Any] = field(default_factory=list)
    n_bytes: int = 0


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM files do."""
    return head[128:132] == b"DICM"


def by_series(parts: Iterable[Part]) -> list[Whole]:
    """The DICOM files among `parts` by their series, in the order in which they are met; empty where there is none.

    A file without a readable UID belongs to the folder's only series; where there are several, such files are one more.
    """
    found: dict[str, Whole] = {}
    for file, name, n_bytes, head in parts:
        if is_dicom(head) or name.lower().endswith((".dcm", ".ima")):
            own = found.setdefault(series_uid(head), Whole(series_uid(head)))
            own.told = own.told or header_text(head)
            own.files.append(file)
            own.n_bytes += n_bytes
    if len(found) == 2 and "" in found:
        (uid,) = found.keys() - {""}
        first, second = found.values()
        return [Whole(uid, first.told or second.told, first.files + second.files, first.n_bytes + second.n_bytes)]
    return list(found.values())


def preferred_t1(found: Sequence[Whole]) -> Whole | None:
    """Of several series the one that is a T1-weighted scan by its header; of several such the one that NACC's reader keeps.

    That is: without contrast before with, 3-D before 2-D, first before repeat, then the largest. None where none is.
    """
    scans = [one for one in found if t1.is_t1(one.told)]
    return min(scans, key=lambda one: (*t1.series_rank(one.told), -one.n_bytes, one.uid), default=None)


def header_text(head: bytes) -> str:
    """Series description and acquisition type from the first bytes of a DICOM file, empty if they tell none.

    The elements are found by their tags (DICOM PS3.6: Series Description 0008,103E; Protocol Name 0018,1030; MR
    Acquisition Type 0018,0023) in little-endian order, with or without a written value representation (PS3.5 7.1).
    """
    return sequence(*(_element(head, *tag)[0] for tag in _TOLD))


def sequence(description: object, protocol: object, acquired: object) -> str:
    """`MPRAGE 3D`; without a description the protocol's name stands in for it."""
    named = next((text for text in (description, protocol) if isinstance(text, str) and text.strip()), "")
    return f"{named} {acquired if isinstance(acquired, str) else ''}".strip() if named else ""


def series_uid(head: bytes) -> str:
    """Series Instance UID (0020,000E), empty if the first bytes tell none.

    The file's own follows its Study Instance UID (0020,000D); one that stands alone may be of a series that it refers to,
    and is taken only where there is no other.
    """
    at = 132
    while at >= 0:
        _, at = _element(head, *_STUDY, start=at)
        if at >= 0 and head.startswith(struct.pack("<HH", *_SERIES), at):
            break
    told, _ = _element(head, *_SERIES, start=max(at, 132))
    return told if _UID.fullmatch(told) else ""


def is_multiframe(head: bytes) -> bool:
    """Whether the file holds several frames (0028,0008), as an enhanced one does: a whole head by itself."""
    told, _ = _element(head, *_FRAMES)
    return told.isdecimal() and int(told) > 1


def _element(head: bytes, group: int, element: int, *, start: int = 132) -> tuple[str, int]:
    """Text of the first such element from `start` on, and where the next begins; ("", -1) where there is none."""
    at = head.find(struct.pack("<HH", group, element), start)
    if at < 0 or at + 8 > len(head):
        return "", -1
    explicit = head[at + 4 : at + 6].isalpha()
    (length,) = struct.unpack_from("<H" if explicit else "<I", head, at + (6 if explicit else 4))
    text = head[at + 8 : at + 8 + length] if length <= 64 else b""
    return text.decode("latin-1").strip(" \0"), at + 8 + len(text)
