"""Images that are byte for byte the same, found without reading more than is needed.

Releases overlap (NACC's quick-access archives hold thousands of repeated images), and one image under two subjects
would leak between splits. Sizes are compared first; then, among zip members, the checksums of the zips' directories; of
what still agrees 64 KiB from the middle, because headers and background are alike; then everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

from elr_mri.scans.imagepath import READ_ERRORS, checksums, open_bytes, open_parts, sizes, split_member

_SAMPLE_BYTES = 2**16


def first_copies(image_paths: Sequence[str]) -> dict[int, int]:
    """Position of each image that repeats an earlier one of the list -> position of that one.

    An image that is empty or cannot be read is no copy of anything; the conversion will say what is wrong with it.
    """
    groups = [list(range(len(image_paths)))]
    for fingerprint in (sizes, checksums, _middle, _digest):
        groups = [part for group in groups for part in _apart(group, image_paths, fingerprint)]
    return {later: group[0] for group in groups for later in group[1:]}


def _apart(group: list[int], paths: Sequence[str], fingerprint: Callable[[str], Hashable]) -> list[list[int]]:
    """The positions that agree in a fingerprint, together; those that stand alone are left out."""
    if fingerprint is checksums and not all(split_member(paths[position])[1] for position in group):
        return [group]  # a plain file has no checksum to compare with
    together: dict[Hashable, list[int]] = {}
    for position in group:
        try:
            key = fingerprint(paths[position])
        except READ_ERRORS:
            continue
        if key != (0,):
            together.setdefault(key, []).append(position)
    return [part for part in together.values() if len(part) > 1]


def _middle(image_path: str) -> bytes:
    with open_bytes(image_path) as file:
        file.seek(max(0, sizes(image_path)[0] // 2 - _SAMPLE_BYTES // 2))
        return hashlib.sha256(file.read(_SAMPLE_BYTES)).digest()


def _digest(image_path: str) -> tuple[bytes, ...]:
    digests = []
    with open_parts(image_path) as parts:
        for part in parts:
            with part as file:
                digests.append(hashlib.file_digest(file, "sha256").digest())
    return tuple(digests)
