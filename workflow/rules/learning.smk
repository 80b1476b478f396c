"""Zone `learning`: from the array cache to models, predictions and saliency maps."""

PACKED = {
    "packed": IMAGING / "pack" / "volumes.npy.json",
    "scans": SCANS / "ingest" / "scans.tsv",
    "splits": SCANS / "split" / "splits.tsv",
}
#: A study that trains on the CPU takes no GPU slot, so its models train side by side.
GPU = 0 if config.get("train", {}).get("device") == "cpu" else 1
MODEL = LEARNING / "{slug}" / "seed-{seed}"
#: The files of a model folder, by the name that rules use.
TRAINED = {
    "weights": "model.safetensors",
    "model": "model.json",
    "history": "history.tsv",
    "card": "model.md",
    "targets": "targets.tsv",
    "trajectory": "trajectory.npy",
}


rule train:
    input:
        **PACKED,
    output:
        **{name: MODEL / file for name, file in TRAINED.items()},
    params:
        config=train_section,
        labels="",
        folder=str(MODEL),
        synthetic="--synthetic" if config.get("phantom") else "",
        processes=lambda wildcards, resources: max(1, resources.gpu),  # more GPUs by the profile's set-resources
        version=VERSIONS["train"],
    threads: 1
    resources:
        **needs("train"),
        gpu=GPU,
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "train" / "{slug}_seed-{seed}.log",
    shell:
        STEP + "train --packed \"$(dirname {input.packed:q})\" --scans {input.scans:q} --splits {input.splits:q}"
        " --model {wildcards.slug} --seed {wildcards.seed} --config {params.config:q} --restart {params.synthetic} {params.labels} --processes {params.processes} --output {params.folder:q}" + LOGGED


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
        **needs("predict"),
        gpu=GPU,
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "predict" / "{slug}_seed-{seed}.log",
    shell:
        STEP + "predict --model \"$(dirname {input.model:q})\" --packed \"$(dirname {input.packed:q})\" --scans {input.scans:q}"
        " --splits {input.splits:q} --config {params.config:q} --output {output:q}" + LOGGED


#: A model of the same make whose training labels are drawn at random: what its maps have in common with the model's, no disease put there.
PERMUTED = LEARNING / "explain" / "{slug}" / "permuted" / "seed-{seed}"


use rule train as explain_permuted with:
    input:
        **PACKED,
        labels=PERMUTED / "labels.tsv",
    output:
        **{name: PERMUTED / file for name, file in TRAINED.items()},
    params:
        config=train_section,
        labels=lambda wildcards, input: f"--labels {shlex.quote(str(input.labels))}",
        folder=str(PERMUTED),
        synthetic="--synthetic" if config.get("phantom") else "",
        processes=lambda wildcards, resources: max(1, resources.gpu),
        version=VERSIONS["train"],
    log: RESULTS / "logs" / "train" / "{slug}_permuted_seed-{seed}.log",


rule explain:
    input:
        **PACKED,
        regions=IMAGING / "regions" / "regions.nii.gz",
        permuted=str(PERMUTED / "model.safetensors").replace("{seed}", str(SEEDS[0])) if (config.get("explain") or {}).get("permuted") else [],
        weights=LEARNING / "{slug}" / f"seed-{SEEDS[0]}" / "model.safetensors",
        model=LEARNING / "{slug}" / f"seed-{SEEDS[0]}" / "model.json",
    output:
        aggregate=LEARNING / "explain" / "{slug}" / "aggregate.nii.gz",
        **{name: LEARNING / "explain" / "{slug}" / f"{name}.tsv" for name in ("examples", "regions", "shares", "checks", "cascade")},
    params:
        permuted=lambda wildcards, input: f"--permuted {shlex.quote(str(Path(input.permuted).parent))}" if input.permuted else "",
        config=section("explain"),
        version=VERSIONS["explain"],
    resources:
        **needs("explain"),
        gpu=GPU,
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "explain" / "{slug}.log",
    shell:
        STEP + "explain --model \"$(dirname {input.model:q})\" --packed \"$(dirname {input.packed:q})\" --scans {input.scans:q}"
        " --splits {input.splits:q} --regions \"$(dirname {input.regions:q})\" {params.permuted} --config {params.config:q} --output \"$(dirname {output.aggregate:q})\"" + LOGGED
