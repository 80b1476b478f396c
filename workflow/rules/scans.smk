"""Zone `scans`: from download folders to one validated scan table, splits and demographics."""

#: Published split tables that the config names, by split.
PUBLISHED = (config.get("split") or {}).get("published") or {}

if config.get("phantom"):

    rule phantom:
        output:
            RESULTS / "phantom" / "study.json",
        params:
            config=section("phantom"),
            version=VERSIONS["phantom"],
        threads: config["phantom"].get("workers", 2)
        conda: "../../envs/imaging.yaml"
        log: RESULTS / "logs" / "phantom.log",
        shell:
            STEP + "phantom --config {params.config:q} --output \"$(dirname {output:q})\"" + LOGGED


checkpoint ingest:
    input:
        RESULTS / "phantom" / "study.json" if config.get("phantom") else [],
    output:
        scans=SCANS / "ingest" / "scans.tsv",
        exclusions=SCANS / "ingest" / "exclusions.tsv",
        visits=SCANS / "ingest" / "visits.tsv",
        notes=SCANS / "ingest" / "notes.tsv",
    params:
        config=section("ingest"),
        cohorts=json.dumps(config["cohorts"]),
        tables=[] if config.get("phantom") else [tree_stamp(c["path"]) for c in COHORTS.values()],
        version=VERSIONS["ingest"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "ingest.log",
    shell:
        STEP + "ingest --cohorts {params.cohorts:q} --config {params.config:q} --output \"$(dirname {output.scans:q})\"" + LOGGED


rule split:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        published=[PUBLISHED[name] for name in ("train", "val", "test") if PUBLISHED.get(name)],
    output:
        SCANS / "split" / "splits.tsv",
    params:
        config=section("split"),
        external=shlex.join(part for name in EXTERNAL for part in ("--external", name)),
        # Not an output: Snakemake would delete it before the draw that it is kept for.
        assigned=SCANS / "split" / "assigned.tsv",
        version=VERSIONS["split"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "split.log",
    shell:
        STEP + "split --scans {input.scans:q} {params.external} --assigned {params.assigned:q} --config {params.config:q} --output {output:q}" + LOGGED


rule demographics:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        splits=SCANS / "split" / "splits.tsv",
    output:
        report(SCANS / "demographics" / "demographics.tsv", caption="../report/table.rst", category="Results"),
    params:
        version=VERSIONS["demographics"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "demographics.log",
    shell:
        STEP + "demographics --scans {input.scans:q} --splits {input.splits:q} --output {output:q}" + LOGGED
