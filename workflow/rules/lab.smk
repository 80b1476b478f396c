"""Room `lab`: do wrong labels mislead the networks? Trained on the study's own scans, with more and more of them."""

LAB = RESULTS / "lab"
LAB_SETTINGS = config.get("lab") or {}
MRI = {"shares": [0.0, 0.2, 0.4], "seeds": [0, 1, 2], "reported": None} | (LAB_SETTINGS.get("mri") or {})
LAB_MODELS = lab_models(MODELS, LAB_SETTINGS)
LAB_RUN = LAB / "mri" / "{slug}" / "share-{share}" / "seed-{seed}"
LAB_LABELS = LAB / "mri" / "labels" / "share-{share}_seed-{seed}.tsv"
#: The model whose targets are read for doubtful labels: the one named, else the first with early-learning regularization.
AUDITED = (LAB_SETTINGS.get("audit") or {}).get("model") or next((slug for slug, model in MODELS.items() if model.get("elr") is not None), [])
#: Who is right in a phantom study: read to make labels wrong and to judge, by no step that learns. No input: a study whose truth was taken away goes on without.
TRUTH = f"--truth {shlex.quote(str(RESULTS / 'phantom' / 'truth' / 'visits.tsv'))}" if config.get("phantom") else ""


wildcard_constraints:
    share=r"[0-9.]+",


def lab_can_be_made(wildcards):
    """No input: refuses what the workflow cannot make, before anything runs."""
    if (LAB_SETTINGS.get("noise") or {}).get("kind") == "instance":
        print("elr-mri: expected a lab.noise.kind that needs no reference model, got instance; `elr-mri lab noise --predictions` takes one.", file=sys.stderr)
        sys.exit(2)
    return []


def lab_runs(name, shares, seeds):
    """A file of every run of the grid, share by share."""
    return expand(LAB_RUN / name, slug=LAB_MODELS, share=shares, seed=seeds)


def lab_labels(shares, seeds):
    """The label table of every run, in the same order."""
    return [path for _ in LAB_MODELS for path in expand(LAB_LABELS, share=shares, seed=seeds)]


def lab_section(*rooms):
    """What an experiment needs to know of the lab's section, as JSON: an edit for one re-runs no other."""
    return json.dumps({key: LAB_SETTINGS[key] for key in (*rooms, "methods") if key in LAB_SETTINGS}, sort_keys=True)


def lab_training(slug):
    """The training section with this method alone; the last epoch counts, but for a method that is to stop early."""
    model = LAB_MODELS[slug]
    return json.dumps({**config["train"], "select": "best" if model.get("patience") else "last", "models": {slug: model}}, sort_keys=True)


def lab_inputs(shares, seeds):
    """What a table of the experiment is made from."""
    return {
        "models": lab_runs("model.json", shares, seeds),
        "predictions": lab_runs("predictions.tsv", shares, seeds),
        "labels": lab_labels(shares, seeds),
        "scans": SCANS / "ingest" / "scans.tsv",
    }


rule lab_linear:
    output:
        LAB / "linear" / "findings.json",
    params:
        config=lab_section("linear"),
        version=VERSIONS["lab"],
    conda: "../../envs/lab.yaml"
    log: RESULTS / "logs" / "lab" / "linear.log",
    shell:
        STEP + "lab linear --config {params.config:q} --output \"$(dirname {output:q})\"" + LOGGED


def lab_images_found(wildcards):
    """What the images are read from: an archive, or a folder and the folders in it, whose times tell of images that were added or taken away."""
    path = (LAB_SETTINGS.get("images") or {}).get("path")
    if not path:
        return []
    root = Path(path).expanduser()
    return [root, *sorted(found for depth in ("*", "*/*") for found in root.glob(depth) if found.is_dir())]


rule lab_images:
    input:
        lab_images_found,
    output:
        LAB / "images" / "findings.json",
    params:
        config=lab_section("images"),
        version=VERSIONS["lab"],
    resources:
        **needs("lab_images"),
        gpu=GPU if (LAB_SETTINGS.get("images") or {}).get("path") else 0,
    conda: "../../envs/lab.yaml"
    log: RESULTS / "logs" / "lab" / "images.log",
    shell:
        STEP + "lab images --config {params.config:q} --output \"$(dirname {output:q})\"" + LOGGED


rule lab_noise:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        splits=SCANS / "split" / "splits.tsv",
    output:
        LAB_LABELS,
    params:
        config=lambda wildcards: json.dumps({"noise": {**(LAB_SETTINGS.get("noise") or {}), "share": float(wildcards.share), "seed": int(wildcards.seed)}}),
        truth=TRUTH,
        version=VERSIONS["lab"],
    conda: "../../envs/learning.yaml"
    log: RESULTS / "logs" / "lab" / "noise_share-{share}_seed-{seed}.log",
    shell:
        STEP + "lab noise --scans {input.scans:q} --splits {input.splits:q} {params.truth} --config {params.config:q} --output {output:q}" + LOGGED


use rule lab_noise as explain_labels with:
    output:
        PERMUTED / "labels.tsv",
    params:
        config=json.dumps({"noise": {"kind": "symmetric", "share": 1.0}}),
        truth="",
        version=VERSIONS["lab"],
    log: RESULTS / "logs" / "explain" / "{slug}_labels_seed-{seed}.log",


use rule train as lab_train with:
    input:
        **PACKED,
        labels=LAB_LABELS,
    output:
        **{name: LAB_RUN / file for name, file in TRAINED.items()},
    params:
        config=lambda wildcards: lab_training(wildcards.slug),
        folder=str(LAB_RUN),
        synthetic="--synthetic" if config.get("phantom") else "",
        labels=lambda wildcards, input: f"--labels {shlex.quote(str(input.labels))}",
        processes=lambda wildcards, resources: max(1, resources.gpu),
        version=VERSIONS["train"],
    log: RESULTS / "logs" / "lab" / "train_{slug}_share-{share}_seed-{seed}.log",


use rule predict as lab_predict with:
    input:
        **PACKED,
        weights=LAB_RUN / "model.safetensors",
        model=LAB_RUN / "model.json",
    output:
        LAB_RUN / "predictions.tsv",
    log: RESULTS / "logs" / "lab" / "predict_{slug}_share-{share}_seed-{seed}.log",


rule lab_mri:
    input:
        **lab_inputs(MRI["shares"], MRI["seeds"]),
    output:
        results=LAB / "mri" / "results.tsv",
        findings=LAB / "mri" / "findings.json",
    params:
        config=lab_section("mri"),
        evaluating=section("evaluate"),
        pairs=lambda wildcards, input: shlex.join(part for model, labels in zip(input.models, input.labels) for part in ("--run", str(Path(model).parent), "--labels", str(labels))),
        truth=TRUTH,
        version=VERSIONS["lab"],
    conda: "../../envs/lab.yaml"
    log: RESULTS / "logs" / "lab" / "mri.log",
    shell:
        STEP + "lab mri {params.pairs} --scans {input.scans:q} {params.truth} --config {params.config:q} --evaluating {params.evaluating:q} --output \"$(dirname {output.results:q})\"" + LOGGED


use rule lab_mri as lab_mri_reported with:
    input:
        **lab_inputs([MRI["reported"]] if MRI["reported"] is not None else [], MRI["seeds"][:1]),
    output:
        results=LAB / "mri" / "reported" / "results.tsv",
        findings=LAB / "mri" / "reported" / "findings.json",
    log: RESULTS / "logs" / "lab" / "mri_reported.log",


rule lab_audit:
    input:
        targets=expand(LEARNING / "{slug}" / "seed-{seed}" / "targets.tsv", slug=AUDITED, seed=SEEDS),
        trajectories=expand(LEARNING / "{slug}" / "seed-{seed}" / "trajectory.npy", slug=AUDITED, seed=SEEDS),
        scans=SCANS / "ingest" / "scans.tsv",
        packed=IMAGING / "pack" / "volumes.npy.json",
        baseline=FINDINGS / "baseline" / "model.json",
    output:
        table=LAB / "audit" / "audit.tsv",
        page=report(LAB / "audit" / "audit.html", caption="../report/audit.rst", category="Labels"),
        facts=LAB / "audit" / "audit.json",
    params:
        config=lab_section("audit"),
        runs=lambda wildcards, input: shlex.join(part for name in input.targets for part in ("--run", str(Path(name).parent))),
        truth=TRUTH,
        version=VERSIONS["lab"],
    conda: "../../envs/lab.yaml"
    log: RESULTS / "logs" / "lab" / "audit.log",
    shell:
        STEP + "lab audit {params.runs} --scans {input.scans:q} --packed \"$(dirname {input.packed:q})\" --baseline {input.baseline:q} {params.truth}"
        " --config {params.config:q} --output \"$(dirname {output.table:q})\"" + LOGGED


def lab_table():
    """What `lab tables` reads: the table or tables that the config names, else the study's own volumes, whose true labels may be known."""
    named = LAB_SETTINGS.get("tables") or {}
    if named.get("path") or named.get("train"):
        paths = {name: str(Path(named[name]).expanduser()) for name in ("path", "scans", "splits", "train", "val", "test", "external") if named.get(name)}
        return paths, ""
    return {"path": IMAGING / "pack" / "roi_volumes.tsv", "scans": SCANS / "ingest" / "scans.tsv", "splits": SCANS / "split" / "splits.tsv"}, TRUTH


rule lab_tables:
    input:
        **lab_table()[0],
    output:
        results=LAB / "tables" / "results.tsv",
        findings=LAB / "tables" / "findings.json",
    params:
        config=json.dumps({**json.loads(lab_section("noise")), "tables": {**(LAB_SETTINGS.get("tables") or {}), **{name: str(path) for name, path in lab_table()[0].items()}}}, sort_keys=True),
        truth=lab_table()[1],
        version=VERSIONS["lab"],
    conda: "../../envs/lab.yaml"
    log: RESULTS / "logs" / "lab" / "tables.log",
    shell:
        STEP + "lab tables {params.truth} --config {params.config:q} --output \"$(dirname {output.results:q})\"" + LOGGED
