"""What all rule files share: the checked config, a step's shell prefix, and the batches of the per-scan steps."""

import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(workflow.basedir))

from elr_mri.scans.batches import rows_by_batch, stamped, tree_stamp, volumes_stamp
from elr_mri.stages import VERSIONS, needs
from elr_mri.variants import base_of, lab_models, looked_at, variants

try:
    from elr_mri.config import check_study
except ImportError:  # Snakemake's own environment needs no pydantic: then each step checks its own section
    check_study = None

if check_study:
    problem = check_study(config)
    if problem:
        print(f"elr-mri: {problem}", file=sys.stderr)
        sys.exit(2)

RESULTS = Path(config.get("results", "results"))
SCANS, IMAGING, LEARNING, FINDINGS = (RESULTS / zone for zone in ("scans", "imaging", "learning", "findings"))
COHORTS = {cohort["name"]: cohort for cohort in config["cohorts"]}
EXTERNAL = [name for name, cohort in COHORTS.items() if cohort.get("role") == "external"]
MODELS = config.get("train", {}).get("models", {})
ABLATIONS = variants(MODELS, config.get("ablations") or {})
SEEDS = config.get("seeds", [0])
N_BATCHES = int(config.get("batches", 0))

#: One shell prefix for every step: works locally, in conda, in containers and on clusters.
STEP = (
    "PYTHONPATH={workflow.basedir:q} OMP_NUM_THREADS={threads} "
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS={threads} python -m elr_mri "
)
LOGGED = " 2>&1 | tee {log:q}"


wildcard_constraints:
    batch=r"[A-Za-z0-9_-]+",
    slug=r"[a-z0-9-]+",
    seed=r"\d+",


def section(name):
    """A stage's section of the config as JSON, to be passed to its step."""
    return json.dumps(config.get(name) or {}, sort_keys=True)


def train_section(wildcards):
    """The training section with this model alone, so that editing one model re-trains no other."""
    settings = dict(config["train"])
    settings["models"] = {wildcards.slug: {**MODELS, **ABLATIONS}[wildcards.slug]}
    return json.dumps(settings, sort_keys=True)


def scan_rows():
    """The scan table by batch, once the checkpoint has written it."""
    table = checkpoints.ingest.get().output.scans
    return rows_by_batch(table, N_BATCHES, modified_ns=Path(table).stat().st_mtime_ns)


def rows_of_batch(wildcards):
    """What a batch is made from: a change in its rows or images re-runs that batch and no other."""
    return json.dumps(stamped(scan_rows().get(wildcards.batch, [])))


def all_batches(step):
    """The status tables of a per-scan step over all batches."""

    def names(wildcards):
        return expand(IMAGING / step / "batches" / "{batch}.tsv", batch=sorted(scan_rows()))

    return names
