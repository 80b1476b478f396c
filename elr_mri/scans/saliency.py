"""Where a model looks, as tables: saliency by region, for each scan and together, and the checks of the maps.

`explain` writes them, the report reads them. A map's mass is its magnitude, summed over the part of the brain that reaches
the network; a region's share of the mass by its share of that part's volume is its ratio, 1 for a map without preference.
"""

from __future__ import annotations

from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES

#: The brain outside all named regions.
REST = "rest of the brain"
#: Hippocampi and entorhinal cortices together, and a layer of one voxel about them.
LOBES, AROUND = "hippocampus and entorhinal cortex", "one voxel around them"

#: Whose maps: the trained model's, those of fresh weights, of a model trained on labels drawn at random.
TRAINED, RANDOM, PERMUTED = MODELS = ("trained", "random", "permuted")
ALL = "all"
#: How the scans' maps were put together: the magnitude of their mean, or the mean of their magnitudes.
AGGREGATE, SINGLE = WAYS = ("mean map", "single maps")

SEGMENTS = Schema(
    name="region",
    version=1,
    key=("number",),
    columns=(
        Column("number", "integer", low=1),
        Column("region"),
        Column("n_voxels", "integer", low=0),
        Column("volume_mm3", "number", low=0),
    ),
)

#: The share of a scan's map in each region, single maps.
MASSES = Schema(
    name="saliency of single scans",
    version=1,
    key=("method", "model", "scan_id", "region"),
    columns=(
        Column("method"),
        Column("model", allowed=MODELS),
        Column("scan_id"),
        Column("cohort"),
        Column("subject_id"),
        Column("diagnosis", allowed=CLASSES),
        Column("region"),
        Column("mass_share", "number", low=0, high=1),
    ),
)

#: Shares of mass and volume and their ratio, with a 95 % interval over subjects; blank where there are too few.
SHARES = Schema(
    name="saliency by region",
    version=1,
    key=("method", "model", "class", "way", "region"),
    columns=(
        Column("method"),
        Column("model", allowed=MODELS),
        Column("class", allowed=(ALL, *CLASSES)),
        Column("way", allowed=WAYS),
        Column("region"),
        Column("volume_share", "number", low=0, high=1),
        Column("mass_share", "number", low=0, high=1),
        Column("ratio", "number", required=False, low=0),
        *(Column(name, "number", required=False, low=0) for name in ("low", "high")),
        Column("n_scans", "integer", low=1),
        Column("n_subjects", "integer", low=1),
    ),
)

#: Whether the maps can be believed: each check with its number, what is asked of it, and what came of it.
PASS, FAIL, NOT_MADE = VERDICTS = ("pass", "fail", "not made")
CHECKS = Schema(
    name="saliency check",
    version=1,
    key=("method", "check"),
    columns=(
        Column("method"),
        Column("check"),
        Column("value", "number", required=False),
        Column("asked", allowed=("at least", "at most")),
        Column("threshold", "number"),
        Column("verdict", allowed=VERDICTS),
        Column("note", required=False),
    ),
)

#: How like the trained model's map one is whose layers from the top down to `layer` have fresh weights.
CASCADE = Schema(
    name="cascade",
    version=1,
    key=("method", "step"),
    columns=(
        Column("method"),
        Column("step", "integer", low=0),
        Column("layer"),
        Column("rank_correlation", "number", required=False, low=-1, high=1),
    ),
)
