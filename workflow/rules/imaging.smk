"""Zone `imaging`: from native scans to registered volumes, ROI volumes and one array cache.

The three per-scan steps run on a batch of scans in one process. The scan table is `ancient`
for them: what re-runs a batch is a change in its own rows.
"""


def scans_of_batch(wildcards):
    """How many scans a batch has, as far as the scan table is there: its job may take so much the longer."""
    return len(scan_rows().get(wildcards.batch, [])) if (SCANS / "ingest" / "scans.tsv").exists() else 0


rule convert:
    input:
        scans=ancient(SCANS / "ingest" / "scans.tsv"),
    output:
        IMAGING / "convert" / "batches" / "{batch}.tsv",
    params:
        config=section("convert"),
        rows=rows_of_batch,
        n_batches=N_BATCHES,
        folder=IMAGING / "convert",
        version=VERSIONS["convert"],
    resources:
        **needs("convert", scans_of_batch),
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "convert" / "{batch}.log",
    shell:
        STEP + "convert --scans {input.scans:q} --batch {wildcards.batch} --batches {params.n_batches}"
        " --config {params.config:q} --output {params.folder:q}" + LOGGED


rule audit:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        splits=SCANS / "split" / "splits.tsv",
        converted=all_batches("convert"),
    output:
        IMAGING / "audit" / "audit.tsv",
    params:
        config=section("audit"),
        converted=IMAGING / "convert",
        version=VERSIONS["audit"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "audit.log",
    shell:
        STEP + "audit --scans {input.scans:q} --splits {input.splits:q} --converted {params.converted:q}"
        " --config {params.config:q} --output {output:q}" + LOGGED


rule register:
    input:
        scans=ancient(SCANS / "ingest" / "scans.tsv"),
        converted=IMAGING / "convert" / "batches" / "{batch}.tsv",
    output:
        IMAGING / "register" / "batches" / "{batch}.tsv",
    params:
        config=section("register"),
        n_batches=N_BATCHES,
        converted=IMAGING / "convert",
        folder=IMAGING / "register",
        version=VERSIONS["register"],
    resources:
        **needs("register", scans_of_batch),
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "register" / "{batch}.log",
    shell:
        STEP + "register --scans {input.scans:q} --converted {params.converted:q} --batch {wildcards.batch}"
        " --batches {params.n_batches} --config {params.config:q} --output {params.folder:q}" + LOGGED


BY_ATLASES = (config.get("measure") or {}).get("source") == "fusion"


rule atlases:
    output:
        IMAGING / "atlases" / "atlases.json",
    params:
        config=section("atlases"),
        registering=section("register"),
        found=tree_stamp(config["atlases"]["path"]) if BY_ATLASES else [],
        version=VERSIONS["atlases"],
    resources:
        **needs("atlases"),
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "atlases.log",
    shell:
        STEP + "atlases --config {params.config:q} --registering {params.registering:q}"
        " --output \"$(dirname {output:q})\"" + LOGGED


rule measure:
    input:
        scans=ancient(SCANS / "ingest" / "scans.tsv"),
        registered=IMAGING / "register" / "batches" / "{batch}.tsv",
        atlases=IMAGING / "atlases" / "atlases.json" if BY_ATLASES else [],
    output:
        IMAGING / "measure" / "batches" / "{batch}.tsv",
    params:
        config=section("measure"),
        volumes=lambda wildcards, input: volumes_stamp(config.get("measure") or {}, input.scans),
        n_batches=N_BATCHES,
        registered=IMAGING / "register",
        folder=IMAGING / "measure",
        voters=["--converted", IMAGING / "convert", "--atlases", IMAGING / "atlases"] if BY_ATLASES else [],
        version=VERSIONS["measure"],
    resources:
        **needs("measure", scans_of_batch),
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "measure" / "{batch}.log",
    shell:
        STEP + "measure --scans {input.scans:q} --registered {params.registered:q} --batch {wildcards.batch}"
        " --batches {params.n_batches} --config {params.config:q} {params.voters:q} --output {params.folder:q}" + LOGGED


rule regions:
    input:
        (config.get("regions") or {}).get("atlas") or [],
    output:
        IMAGING / "regions" / "regions.nii.gz",
        IMAGING / "regions" / "regions.tsv",
    params:
        config=section("regions"),
        register=section("register"),
        measure=section("measure"),
        folder=IMAGING / "regions",
        version=VERSIONS["regions"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "regions.log",
    shell:
        STEP + "regions --config {params.config:q} --registering {params.register:q} --measuring {params.measure:q} --output {params.folder:q}" + LOGGED


rule review:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        registered=all_batches("register"),
        decisions=(config.get("review") or {}).get("decisions") or [],
    output:
        table=IMAGING / "review" / "review.tsv",
        page=IMAGING / "review" / "review.html",
    params:
        config=section("review"),
        converted=IMAGING / "convert",
        registered=IMAGING / "register",
        version=VERSIONS["review"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "review.log",
    shell:
        STEP + "review --scans {input.scans:q} --converted {params.converted:q} --registered {params.registered:q}"
        " --config {params.config:q} --output \"$(dirname {output.table:q})\"" + LOGGED


rule pack:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        reviewed=IMAGING / "review" / "review.tsv",
        measured=all_batches("measure"),
        audited=IMAGING / "audit" / "audit.tsv",
    # volumes.npy, index.tsv and meta.json are no outputs: Snakemake would delete them before a run that appends, and
    # for `update` copies a file first. The record tells the hash of all rows, and changes with them.
    output:
        packed=IMAGING / "pack" / "volumes.npy.json",
        rois=IMAGING / "pack" / "roi_volumes.tsv",
        status=IMAGING / "pack" / "status.tsv",
    params:
        config=section("pack"),
        converted=IMAGING / "convert",
        registered=IMAGING / "register",
        measured=IMAGING / "measure",
        version=VERSIONS["pack"],
    conda: "../../envs/imaging.yaml"
    log: RESULTS / "logs" / "pack.log",
    shell:
        STEP + "pack --scans {input.scans:q} --reviewed {input.reviewed:q} --converted {params.converted:q} --registered {params.registered:q}"
        " --measured {params.measured:q} --config {params.config:q} --output \"$(dirname {output.packed:q})\"" + LOGGED
