"""NIfTI, transforms and the cache: from native scans to registered volumes and ROI volumes.

Scans are worked on side by side, one thread each: numpy's linear algebra would start one thread per core where nothing
says otherwise. It reads this when it is first loaded, so it is said before any module of the zone is.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
