"""A head's worth of small DICOM files of one invented person, written element by element."""

from __future__ import annotations

import struct

import numpy as np

#: What must never leave a DICOM file.
PERSON = {
    "name": "DOE^JANE^PRIVATE",
    "id": "HOSPITAL-77123",
    "birth": "19410203",
    "address": "12 ELM STREET ANYTOWN",
    "physician": "SMITH^JOHN",
    "institution": "SAINT ELSEWHERE",
}


def volume() -> np.ndarray:
    """Voxels of the head: (32 columns, 40 rows, 36 slices) uint16, 5 mm."""
    return np.random.default_rng(1).integers(0, 900, (32, 40, 36)).astype("<u2")


def series(description: str = "MPRAGE", uid: str = "1.2.826.1") -> list[bytes]:
    """One DICOM file for each slice of `volume`."""
    head = volume()
    return [_file(head[:, :, k].T, k, description, uid) for k in range(head.shape[2])]


def _file(voxels: np.ndarray, k: int, description: str, uid: str) -> bytes:
    mr = "1.2.840.10008.5.1.4.1.1.4"
    meta = _element(2, 2, "UI", mr) + _element(2, 3, "UI", f"{uid}.{k + 1}")
    meta += _element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
    elements = [
        (0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\M\\ND\\NORM"),
        (0x0008, 0x0016, "UI", mr),
        (0x0008, 0x0018, "UI", f"{uid}.{k + 1}"),
        (0x0008, 0x0020, "DA", "20220310"),
        (0x0008, 0x0030, "TM", "101112"),
        (0x0008, 0x0060, "CS", "MR"),
        (0x0008, 0x0070, "LO", "SIEMENS"),
        (0x0008, 0x0080, "LO", PERSON["institution"]),
        (0x0008, 0x0090, "PN", PERSON["physician"]),
        (0x0008, 0x103E, "LO", description),
        (0x0010, 0x0010, "PN", PERSON["name"]),
        (0x0010, 0x0020, "LO", PERSON["id"]),
        (0x0010, 0x0030, "DA", PERSON["birth"]),
        (0x0010, 0x1040, "LO", PERSON["address"]),
        (0x0010, 0x4000, "LT", "comment on " + PERSON["name"]),
        (0x0018, 0x0023, "CS", "3D"),
        (0x0018, 0x0050, "DS", "5"),
        (0x0018, 0x0080, "DS", "2300"),
        (0x0018, 0x0081, "DS", "3"),
        (0x0018, 0x0087, "DS", "3"),
        (0x0020, 0x000D, "UI", "1.2.826.9"),
        (0x0020, 0x000E, "UI", uid),
        (0x0020, 0x0011, "IS", "2"),
        (0x0020, 0x0012, "IS", "1"),
        (0x0020, 0x0013, "IS", str(k + 1)),
        (0x0020, 0x0032, "DS", f"-80\\-100\\{5 * k - 90}"),
        (0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0"),
        (0x0020, 0x4000, "LT", "image of " + PERSON["name"]),
        (0x0028, 0x0002, "US", 1),
        (0x0028, 0x0004, "CS", "MONOCHROME2"),
        (0x0028, 0x0010, "US", voxels.shape[0]),
        (0x0028, 0x0011, "US", voxels.shape[1]),
        (0x0028, 0x0030, "DS", "5\\5"),
        (0x0028, 0x0100, "US", 16),
        (0x0028, 0x0101, "US", 16),
        (0x0028, 0x0102, "US", 15),
        (0x0028, 0x0103, "US", 0),
    ]
    body = b"".join(_element(*element) for element in elements)
    pixels = np.ascontiguousarray(voxels).tobytes()
    body += struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", len(pixels)) + pixels
    return bytes(128) + b"DICM" + _element(2, 0, "UL", len(meta)) + meta + body


def _element(group: int, element: int, kind: str, value: str | int) -> bytes:
    if kind in ("US", "UL"):
        raw = struct.pack("<H" if kind == "US" else "<I", value)
    else:
        raw = str(value).encode()
        raw += (b"\0" if kind == "UI" else b" ") * (len(raw) % 2)
    return struct.pack("<HH2sH", group, element, kind.encode(), len(raw)) + raw
