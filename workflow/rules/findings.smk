"""Zone `findings`: from predictions, volumes and maps to tables, figures and the report."""

PREDICTIONS = [
    FINDINGS / "baseline" / "predictions.tsv",
    *expand(LEARNING / "{slug}" / "seed-{seed}" / "predictions.tsv", slug=MODELS, seed=SEEDS),
]
EXPLAINED = config.get("explain", {}).get("model")


rule baseline:
    input:
        rois=IMAGING / "pack" / "roi_volumes.tsv",
        scans=SCANS / "ingest" / "scans.tsv",
        splits=SCANS / "split" / "splits.tsv",
    output:
        predictions=FINDINGS / "baseline" / "predictions.tsv",
        model=FINDINGS / "baseline" / "model.json",
    params:
        config=section("baseline"),
        version=VERSIONS["baseline"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "baseline.log",
    shell:
        STEP + "baseline --rois {input.rois:q} --scans {input.scans:q} --splits {input.splits:q}"
        " --config {params.config:q} --output $(dirname {output.model:q})" + LOGGED
