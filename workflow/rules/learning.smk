"""Zone `learning`: from the array cache to models, predictions and saliency maps."""

PACKED = {
    "packed": IMAGING / "pack" / "volumes.npy.json",
    "scans": SCANS / "ingest" / "scans.tsv",
    "splits": SCANS / "split" / "splits.tsv",
}
#: A study that trains on the CPU takes no GPU slot, so its models train side by side.
GPU = 0 if config.get("train", {}).get("device") == "cpu" else 1
MODEL = LEARNING / "{slug}" / "seed-{seed}"


rule train:
    input:
        **PACKED,
    output:
        weights=MODEL / "model.safetensors",
        model=MODEL / "model.json",
        history=MODEL / "history.tsv",
        targets=MODEL / "targets.tsv",
        trajectory=MODEL / "trajectory.npy",
        card=MODEL / "model.md",
    params:
        config=train_section,
        folder=str(MODEL),
        synthetic="--synthetic" if config.get("phantom") else "",
        processes=lambda wildcards, resources: max(1, resources.gpu),  # more GPUs by the profile's set-resources
        version=VERSIONS["train"],
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=MEMORY_MB["train"],
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "train" / "{slug}_seed-{seed}.log",
    shell:
        STEP + "train --packed \"$(dirname {input.packed:q})\" --scans {input.scans:q} --splits {input.splits:q}"
        " --model {wildcards.slug} --seed {wildcards.seed} --config {params.config:q} --restart {params.synthetic} --processes {params.processes} --output {params.folder:q}" + LOGGED


rule predict:
    input:
        **PACKED,
        weights=MODEL / "model.safetensors",
        model=MODEL / "model.json",
    output:
        MODEL / "predictions.tsv",
    params:
        config=section("predict"),
        version=VERSIONS["predict"],
    resources:
        gpu=GPU,
        mem_mb=MEMORY_MB["predict"],
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "predict" / "{slug}_seed-{seed}.log",
    shell:
        STEP + "predict --model \"$(dirname {input.model:q})\" --packed \"$(dirname {input.packed:q})\" --scans {input.scans:q}"
        " --splits {input.splits:q} --config {params.config:q} --output {output:q}" + LOGGED


rule explain:
    input:
        **PACKED,
        weights=LEARNING / "{slug}" / f"seed-{SEEDS[0]}" / "model.safetensors",
        model=LEARNING / "{slug}" / f"seed-{SEEDS[0]}" / "model.json",
    output:
        aggregate=LEARNING / "explain" / "{slug}" / "aggregate.nii.gz",
        examples=LEARNING / "explain" / "{slug}" / "examples.tsv",
    params:
        config=section("explain"),
        version=VERSIONS["explain"],
    resources:
        gpu=GPU,
        mem_mb=MEMORY_MB["explain"],
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "explain" / "{slug}.log",
    shell:
        STEP + "explain --model \"$(dirname {input.model:q})\" --packed \"$(dirname {input.packed:q})\" --scans {input.scans:q}"
        " --splits {input.splits:q} --config {params.config:q} --output \"$(dirname {output.aggregate:q})\"" + LOGGED
