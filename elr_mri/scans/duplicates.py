"""Images that are byte for byte the same, found without reading more than is needed.

Releases overlap (NACC's quick-access archives hold thousands of repeated images), and one image under two subjects
would leak between splits. Sizes are compared first; of equal sizes 64 KiB from the middle, because headers and
background are alike; of those that still agree, everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

from elr_mri.scans.imagepath import READ_ERRORS, open_bytes, size_bytes, split_member

_SAMPLE_BYTES = 2**16


def first_copies(image_paths: Sequence[str]) -> dict[int, int]:
    """Position of each image that repeats an earlier one of the list -> position of that one.

    An image that is empty or cannot be read is no copy of anything; the conversion will say what is wrong with it.
    """
    groups = [list(range(len(image_paths)))]
    for fingerprint in (_size, _middle, _digest):
        groups = [part for group in groups for part in _apart(group, image_paths, fingerprint)]
    return {later: group[0] for group in groups for later in group[1:]}


def _apart(group: list[int], paths: Sequence[str], fingerprint: Callable[[str], Hashable]) -> list[list[int]]:
    """The positions that agree in a fingerprint, together; those that stand alone are left out."""
    together: dict[Hashable, list[int]] = {}
    for position in group:
        try:
            key = fingerprint(paths[position])
        except READ_ERRORS:
            continue
        if key != (0,):
            together.setdefault(key, []).append(position)
    return [part for part in together.values() if len(part) > 1]


def _parts(image_path: str) -> list[str]:
    """The files of an image: itself, or what a DICOM folder holds."""
    on_disk, member = split_member(image_path)
    if member is None and on_disk.is_dir():
        return sorted(str(part) for part in on_disk.rglob("*") if part.is_file())
    return [image_path]


def _size(image_path: str) -> tuple[int, ...]:
    return tuple(size_bytes(part) for part in _parts(image_path))


def _middle(image_path: str) -> bytes:
    part = _parts(image_path)[0]
    with open_bytes(part) as file:
        file.seek(max(0, size_bytes(part) // 2 - _SAMPLE_BYTES // 2))
        return hashlib.sha256(file.read(_SAMPLE_BYTES)).digest()


def _digest(image_path: str) -> tuple[bytes, ...]:
    digests = []
    for part in _parts(image_path):
        with open_bytes(part) as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return tuple(digests)
