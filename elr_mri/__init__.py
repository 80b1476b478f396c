"""elr_mri: early Alzheimer detection from structural MRI, from downloads to a report."""

__version__ = "0.1.0"
