"""The version of every stage: a bump re-runs exactly that stage and what depends on it.

Snakemake does not see edits in an imported module, so the rules pass these numbers as
parameters. Raise a stage's number whenever its output changes for the same input. Standard
library only: the workflow reads this while it parses.
"""

VERSIONS = {
    "phantom": 1,
    "ingest": 1,
    "split": 2,
    "demographics": 1,
    "convert": 1,
    "register": 1,
    "measure": 1,
    "pack": 1,
    "baseline": 1,
    "train": 2,
    "predict": 1,
    "explain": 1,
    "evaluate": 1,
    "report": 1,
}
