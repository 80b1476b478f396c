"""NIfTI, transforms and the cache: from native scans to registered volumes and ROI volumes."""
