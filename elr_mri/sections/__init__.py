"""The sections of a study's config: one small frozen model per stage, unknown keys refused.

Every field is explained in `config/README.md`; `config.py` reads files into these models. A module of sections is
imported when one of its names is first asked for: a step reads one section or two, and the models of all of them
would be a sixth of the start-up of a small step (decision 0024).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Module -> what others use of it.
HOMES = {
    "base": ("Section",),
    "findings": (
        "SPLIT_TABLES",
        "AllRegions",
        "Baseline",
        "Evaluate",
        "Fuse",
        "Progression",
        "Report",
        "RoiTables",
        "Shift",
        "Subgroups",
    ),
    "imaging": ("GIVEN", "RECIPES", "Atlases", "Audit", "Convert", "Measure", "Pack", "Regions", "Register", "Review"),
    "lab": (
        "GRIDS",
        "METHODS",
        "Candidate",
        "Fit",
        "ImageNoise",
        "Images",
        "Lab",
        "LabelAudit",
        "Linear",
        "Mri",
        "Noise",
        "RoiPhantom",
        "TableFit",
        "Tables",
    ),
    "learning": ("Ablations", "Augment", "Explain", "Model", "Predict", "Train", "Variant"),
    "loss": ("Elr", "Gce", "Loss", "Sop"),
    "scans": ("Anatomy", "Cohort", "Cohorts", "Demographics", "Ingest", "Phantom", "Published", "Split"),
    "study": ("Study",),
}
_HOME = {name: module for module, names in HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """A section by its name, from its own module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
