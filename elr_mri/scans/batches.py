"""Which scans share a process: the batches of the per-scan steps.

Importing ANTs costs seconds, so a per-scan step may take a small batch of scans.
A scan's batch depends on nothing but its own id and the number of batches, so
adding a scan touches one batch and no other. Standard library only: the workflow
calls this while it parses.
"""

from __future__ import annotations

import zlib


def batch_of(scan_id: str, n_batches: int) -> str:
    """Name of the batch of a scan: `000`, `001` …; with `n_batches` 0 every scan is its own batch.

    >>> batch_of("sub-ADNI001S0001_ses-M000", 0)
    'sub-ADNI001S0001_ses-M000'
    """
    if n_batches == 0:
        return scan_id
    return f"{zlib.crc32(scan_id.encode()) % n_batches:03d}"
