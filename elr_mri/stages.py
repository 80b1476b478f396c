"""The version of every stage: a bump re-runs exactly that stage and what depends on it.

Snakemake does not see edits in an imported module, so the rules pass these numbers as
parameters. Raise a stage's number whenever its output changes for the same input. Standard
library only: the workflow reads this while it parses.
"""

VERSIONS = {
    "phantom": 3,
    "ingest": 9,
    "split": 2,
    "demographics": 1,
    "convert": 4,
    "audit": 1,
    "register": 7,
    "atlases": 1,
    "measure": 4,
    "regions": 1,
    "review": 1,
    "pack": 5,
    "baseline": 3,
    "train": 6,
    "predict": 2,
    "explain": 5,
    "lab": 3,
    "fuse": 1,
    "evaluate": 3,
    "subgroups": 1,
    "progression": 1,
    "shift": 1,
    "report": 8,
}

#: Memory in MB that one job of a stage reserves, so that no more are started than fit.
MEMORY_MB = {
    "register": 3000,
    "atlases": 3000,
    "measure": 2000,
    "train": 4000,
    "predict": 4000,
    "explain": 2500,
    "lab_images": 4000,
}
