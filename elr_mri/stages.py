"""The version of every stage: a bump re-runs exactly that stage and what depends on it.

Snakemake does not see edits in an imported module, so the rules pass these numbers as
parameters. Raise a stage's number whenever its output changes for the same input. Standard
library only: the workflow reads this while it parses.
"""

from collections.abc import Callable

VERSIONS = {
    "phantom": 3,
    "ingest": 11,
    "split": 2,
    "demographics": 1,
    "convert": 5,
    "audit": 1,
    "register": 7,
    "atlases": 1,
    "measure": 5,
    "regions": 1,
    "review": 3,
    "pack": 6,
    "baseline": 4,
    "train": 6,
    "predict": 3,
    "explain": 5,
    "lab": 5,
    "fuse": 1,
    "evaluate": 4,
    "subgroups": 3,
    "progression": 3,
    "shift": 1,
    "report": 13,
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

#: Minutes that a cluster may give one job of a stage before it ends it, and of a step that takes scans one by one,
#: those for each scan: some ten times what was measured. A stage that stands in neither table takes what the profile gives all.
MINUTES = {
    "convert": 10,
    "register": 10,
    "atlases": 240,
    "measure": 10,
    "train": 720,
    "predict": 120,
    "explain": 240,
    "lab_images": 720,
}
MINUTES_PER_SCAN = {"convert": 1, "register": 5, "measure": 5}


def needs(stage: str, n_scans: Callable[..., int] | None = None) -> dict[str, Callable[..., int]]:
    """What a job of a stage asks for, as Snakemake's resources: `mem_mb` in MB, where the stage reserves any, and `runtime` in minutes.

    The second attempt asks for twice as much, the third for three times. `n_scans` tells from the wildcards how many scans
    the job takes.

    >>> needs("train")["runtime"](None, attempt=2)
    1440
    """

    def memory(wildcards: object, attempt: int) -> int:
        return MEMORY_MB[stage] * attempt

    def minutes(wildcards: object, attempt: int) -> int:
        scans = n_scans(wildcards) if n_scans else 0
        return (MINUTES[stage] + MINUTES_PER_SCAN.get(stage, 0) * scans) * attempt

    return {"mem_mb": memory, "runtime": minutes} if stage in MEMORY_MB else {"runtime": minutes}
