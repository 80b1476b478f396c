"""Zone `findings`: from predictions, volumes and maps to tables, figures and the report."""

PREDICTIONS = [
    FINDINGS / "baseline" / "predictions.tsv",
    *expand(LEARNING / "{slug}" / "seed-{seed}" / "predictions.tsv", slug=MODELS, seed=SEEDS),
]
#: The model that the ablations start from, then they, as `evaluate` is to compare them.
ABLATED = [base_of(MODELS, config.get("ablations") or {}), *ABLATIONS] if ABLATIONS else []
ABLATION_SCORES = FINDINGS / "ablations" / "tables" / "results.tsv"
ABLATION_TABLE = FINDINGS / "tables" / "ablations.tsv"
EXPLAINED = config.get("explain", {}).get("model")


def if_ablated(files):
    """Inputs of the report where ablations are asked for, and from then on: a study that never made them trains none."""

    def names(wildcards):
        asked = {"ablations", str(ABLATION_TABLE)}.intersection(map(str, workflow.dag_settings.targets))
        return files if ABLATED and (asked or ABLATION_SCORES.exists()) else []

    return names


def lab_made(wildcards):
    """What the report tells of the noisy-label experiment: the whole grid where it is asked for or was made, else the part that `lab.mri.reported` names."""
    whole = LAB / "mri" / "findings.json"
    if "lab" in workflow.dag_settings.targets or whole.exists():
        return whole
    return [] if MRI["reported"] is None else LAB / "mri" / "reported" / "findings.json"


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
        " --config {params.config:q} --output \"$(dirname {output.model:q})\"" + LOGGED


rule evaluate:
    input:
        PREDICTIONS,
    output:
        results=report(FINDINGS / "tables" / "results.tsv", caption="../report/table.rst", category="Results"),
        main=report(FINDINGS / "tables" / "main.tsv", caption="../report/main.rst", category="Results"),
        differences=report(FINDINGS / "tables" / "differences.tsv", caption="../report/table.rst", category="Results"),
        confusion=report(FINDINGS / "tables" / "confusion.tsv", caption="../report/table.rst", category="Results"),
        roc=report(FINDINGS / "tables" / "roc.tsv", caption="../report/table.rst", category="Results"),
        left_out=FINDINGS / "tables" / "left_out.tsv",
    params:
        config=section("evaluate"),
        folder=FINDINGS,
        version=VERSIONS["evaluate"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "evaluate.log",
    shell:
        STEP + "evaluate {input:q} --config {params.config:q} --output {params.folder:q}" + LOGGED


use rule evaluate as evaluate_ablations with:
    input:
        expand(LEARNING / "{slug}" / "seed-{seed}" / "predictions.tsv", slug=ABLATED, seed=SEEDS),
    output:
        **{name: FINDINGS / "ablations" / "tables" / f"{name}.tsv" for name in ("results", "main", "differences", "confusion", "roc", "left_out")},
    params:
        config=section("evaluate"),
        folder=FINDINGS / "ablations",
        version=VERSIONS["evaluate"],
    log: RESULTS / "logs" / "evaluate_ablations.log",


rule report:
    input:
        results=report(FINDINGS / "tables" / "results.tsv", caption="../report/table.rst", category="Results"),
        scans=SCANS / "ingest" / "scans.tsv",
        exclusions=SCANS / "ingest" / "exclusions.tsv",
        notes=SCANS / "ingest" / "notes.tsv",
        splits=SCANS / "split" / "splits.tsv",
        demographics=SCANS / "demographics" / "demographics.tsv",
        packed=IMAGING / "pack" / "volumes.npy.json",
        reviewed=IMAGING / "review" / "review.html",
        histories=expand(LEARNING / "{slug}" / "seed-{seed}" / "history.tsv", slug=MODELS, seed=SEEDS),
        explained=LEARNING / "explain" / EXPLAINED / "aggregate.nii.gz" if EXPLAINED else [],
        lab=lab_made,
        audited=LAB / "audit" / "audit.json" if AUDITED else [],
        ablations=if_ablated(ABLATION_SCORES),
        ablated=if_ablated(expand(LEARNING / "{slug}" / "seed-{seed}" / "model.json", slug=ABLATED, seed=SEEDS[:1])),
    output:
        page=report(RESULTS / "report.html", caption="../report/page.rst", category="Report"),
        accounting=report(FINDINGS / "tables" / "accounting.tsv", caption="../report/accounting.rst", category="Results"),
        notes=FINDINGS / "tables" / "notes.tsv",
        ablations=report(ABLATION_TABLE, caption="../report/ablations.rst", category="Results"),
        figures=report(directory(FINDINGS / "figures"), patterns=["{name}.png"], caption="../report/figure.rst", category="Figures"),
    params:
        config=section("report"),
        models=lambda wildcards, input: [f"--model {shlex.quote(str(Path(name).parent))}" for name in input.histories],
        explained=lambda wildcards, input: f"--explained {shlex.quote(str(Path(input.explained).parent))}" if input.explained else "",
        ablations=lambda wildcards, input: shlex.join(["--ablations", str(Path(input.ablations).parent), *(part for name in input.ablated for part in ("--ablated", str(Path(name).parent)))]) if input.ablations else "",
        lab=lambda wildcards, input: shlex.join(part for option, name in (("--lab", input.lab), ("--audited", input.audited)) if name for part in (option, str(Path(str(name)).parent))),
        registered=IMAGING / "register",
        study=json.dumps(config, sort_keys=True),
        version=VERSIONS["report"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "report.log",
    shell:
        STEP + "report --tables \"$(dirname {input.results:q})\" --scans {input.scans:q} --exclusions {input.exclusions:q}"
        " --notes {input.notes:q} --splits {input.splits:q} --demographics {input.demographics:q} --packed \"$(dirname {input.packed:q})\" --registered {params.registered:q} --reviewed {input.reviewed:q}"
        " {params.models} {params.explained} {params.ablations} {params.lab} --study {params.study:q} --config {params.config:q}"
        " --figures {output.figures:q} --output {output.page:q}" + LOGGED
