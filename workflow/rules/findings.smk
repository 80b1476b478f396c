"""Zone `findings`: from predictions, volumes and maps to tables, figures and the report."""

EXPLAINED = config.get("explain", {}).get("model")
#: The network that is fused with the volumes: the one named, else that of `explain`, else the first.
FUSED = (config.get("fuse") or {}).get("model") or (EXPLAINED if EXPLAINED in MODELS else next(iter(MODELS), None))
PREDICTIONS = [
    FINDINGS / "baseline" / "predictions.tsv",
    *expand(LEARNING / "{slug}" / "seed-{seed}" / "predictions.tsv", slug=MODELS, seed=SEEDS),
    *([FINDINGS / "fuse" / "predictions.tsv"] if FUSED else []),
]
#: The model that the ablations start from, then they, as `evaluate` is to compare them.
ABLATED = [base_of(MODELS, config.get("ablations") or {}), *ABLATIONS] if ABLATIONS else []
ABLATION_SCORES = FINDINGS / "ablations" / "tables" / "results.tsv"
ABLATION_TABLE = FINDINGS / "tables" / "ablations.tsv"



def compared(step):
    """Prediction tables of the models that a step looks at."""
    files = {slug: expand(LEARNING / slug / "seed-{seed}" / "predictions.tsv", seed=SEEDS) for slug in MODELS} | {"fused": [FINDINGS / "fuse" / "predictions.tsv"]}
    asked = dict.fromkeys(name.removesuffix("-ensemble") for name in looked_at(config, step))
    return list(dict.fromkeys(path for name in asked for path in files.get(name, [FINDINGS / "baseline" / "predictions.tsv"])))


def told(name, **more):
    """The section of a step whose table counts people: exactly for a page that stays in the house, unless the section says otherwise."""
    exact = {"min_cell": 0} if (config.get("report") or {}).get("in_house") else {}
    return json.dumps(exact | (config.get(name) or {}) | more, sort_keys=True)


def compared_section(step):
    """The same with the models that the step looks at by name: a table may hold others."""
    return told(step, models=looked_at(config, step))


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


def lab_rooms(wildcards):
    """The experiments on other data that the report tells of: where they are asked for, and from then on."""
    rooms = {name: LAB / name / "findings.json" for name in ("linear", "images", "tables")}
    return [path for path in rooms.values() if "lab" in workflow.dag_settings.targets or path.exists()]


#: What the baseline of all regions is stored in, where it is made.
ALL_REGIONS = {"all_regions": FINDINGS / "baseline" / "volumes-all.json", "arrays": FINDINGS / "baseline" / "volumes-all.npz"}
if (config.get("baseline") or {}).get("all_regions", {}) is None:
    ALL_REGIONS = {}


rule baseline:
    input:
        rois=IMAGING / "pack" / "roi_volumes.tsv",
        scans=SCANS / "ingest" / "scans.tsv",
        splits=SCANS / "split" / "splits.tsv",
    output:
        predictions=FINDINGS / "baseline" / "predictions.tsv",
        model=FINDINGS / "baseline" / "model.json",
        **ALL_REGIONS,
    params:
        config=section("baseline"),
        version=VERSIONS["baseline"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "baseline.log",
    shell:
        STEP + "baseline --rois {input.rois:q} --scans {input.scans:q} --splits {input.splits:q}"
        " --config {params.config:q} --output \"$(dirname {output.model:q})\"" + LOGGED


rule fuse:
    input:
        volumes=FINDINGS / "baseline" / "predictions.tsv",
        networks=expand(LEARNING / "{slug}" / "seed-{seed}" / "predictions.tsv", slug=FUSED or [], seed=SEEDS),
    output:
        predictions=FINDINGS / "fuse" / "predictions.tsv",
        model=FINDINGS / "fuse" / "model.json",
    params:
        config=section("fuse"),
        networks=lambda wildcards, input: shlex.join(part for name in input.networks for part in ("--network", str(name))),
        version=VERSIONS["fuse"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "fuse.log",
    shell:
        STEP + "fuse --volumes {input.volumes:q} {params.networks} --config {params.config:q} --output \"$(dirname {output.model:q})\"" + LOGGED


#: The tables of `evaluate`, besides the main one.
SCORES = (
    *("results", "differences", "subjects", "subject_differences", "confusion", "roc"),
    *("temperatures", "calibration", "reliability"),
)


rule evaluate:
    input:
        PREDICTIONS,
    output:
        **{name: report(FINDINGS / "tables" / f"{name}.tsv", caption="../report/table.rst", category="Results") for name in SCORES},
        main=report(FINDINGS / "tables" / "main.tsv", caption="../report/main.rst", category="Results"),
        latex=FINDINGS / "tables" / "main.tex",
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
        **{name: FINDINGS / "ablations" / "tables" / f"{name}.tsv" for name in ("main", "left_out", *SCORES)},
        latex=FINDINGS / "ablations" / "tables" / "main.tex",
    params:
        config=section("evaluate"),
        folder=FINDINGS / "ablations",
        version=VERSIONS["evaluate"],
    log: RESULTS / "logs" / "evaluate_ablations.log",


rule subgroups:
    input:
        predictions=compared("subgroups"),
        scans=SCANS / "ingest" / "scans.tsv",
    output:
        report(FINDINGS / "tables" / "subgroups.tsv", caption="../report/subgroups.rst", category="Results"),
    params:
        config=compared_section("subgroups"),
        version=VERSIONS["subgroups"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "subgroups.log",
    shell:
        STEP + "subgroups {input.predictions:q} --scans {input.scans:q} --config {params.config:q} --output {output:q}" + LOGGED


rule progression:
    input:
        predictions=compared("progression"),
        scans=SCANS / "ingest" / "scans.tsv",
        visits=SCANS / "ingest" / "visits.tsv",
    output:
        measures=report(FINDINGS / "tables" / "progression.tsv", caption="../report/progression.rst", category="Results"),
        survival=report(FINDINGS / "tables" / "survival.tsv", caption="../report/progression.rst", category="Results"),
        followed=report(FINDINGS / "tables" / "followed.tsv", caption="../report/progression.rst", category="Results"),
    params:
        config=compared_section("progression"),
        version=VERSIONS["progression"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "progression.log",
    shell:
        STEP + "progression {input.predictions:q} --scans {input.scans:q} --visits {input.visits:q} --config {params.config:q}"
        " --output \"$(dirname {output.measures:q})\"" + LOGGED


rule shift:
    input:
        scans=SCANS / "ingest" / "scans.tsv",
        splits=SCANS / "split" / "splits.tsv",
        packed=IMAGING / "pack" / "volumes.npy.json",
        rois=IMAGING / "pack" / "roi_volumes.tsv",
    output:
        report(FINDINGS / "tables" / "shift.tsv", caption="../report/shift.rst", category="Results"),
    params:
        config=told("shift"),
        version=VERSIONS["shift"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "shift.log",
    shell:
        STEP + "shift --scans {input.scans:q} --splits {input.splits:q} --packed \"$(dirname {input.packed:q})\" --config {params.config:q} --output {output:q}" + LOGGED


rule report:
    input:
        results=FINDINGS / "tables" / "results.tsv",
        scans=SCANS / "ingest" / "scans.tsv",
        exclusions=SCANS / "ingest" / "exclusions.tsv",
        notes=SCANS / "ingest" / "notes.tsv",
        splits=SCANS / "split" / "splits.tsv",
        demographics=SCANS / "demographics" / "demographics.tsv",
        packed=IMAGING / "pack" / "volumes.npy.json",
        reviewed=IMAGING / "review" / "review.html",
        histories=expand(LEARNING / "{slug}" / "seed-{seed}" / "history.tsv", slug=MODELS, seed=SEEDS),
        explained=LEARNING / "explain" / EXPLAINED / "aggregate.nii.gz" if EXPLAINED else [],
        subgroups=FINDINGS / "tables" / "subgroups.tsv",
        shift=FINDINGS / "tables" / "shift.tsv",
        progression=FINDINGS / "tables" / "progression.tsv",
        lab=lab_made,
        experiments=lab_rooms,
        audited=LAB / "audit" / "audit.json" if AUDITED else [],
        baselines=FINDINGS / "baseline" / "model.json",
        fused=FINDINGS / "fuse" / "model.json" if FUSED else [],
        ablations=if_ablated(ABLATION_SCORES),
        ablated=if_ablated(expand(LEARNING / "{slug}" / "seed-{seed}" / "model.json", slug=ABLATED, seed=SEEDS[:1])),
    output:
        page=report(RESULTS / "report.html", caption="../report/page.rst", category="Report"),
        accounting=report(FINDINGS / "tables" / "accounting.tsv", caption="../report/accounting.rst", category="Results"),
        notes=FINDINGS / "tables" / "notes.tsv",
        comparisons=report(FINDINGS / "tables" / "comparisons.tsv", caption="../report/comparisons.rst", category="Results"),
        ablations=report(ABLATION_TABLE, caption="../report/ablations.rst", category="Results"),
        figures=report(directory(FINDINGS / "figures"), patterns=["{name}.png"], caption="../report/figure.rst", category="Figures"),
    params:
        config=section("report"),
        models=lambda wildcards, input: [f"--model {shlex.quote(str(Path(name).parent))}" for name in input.histories],
        explained=lambda wildcards, input: f"--explained {shlex.quote(str(Path(input.explained).parent))}" if input.explained else "",
        ablations=lambda wildcards, input: shlex.join(["--ablations", str(Path(input.ablations).parent), *(part for name in input.ablated for part in ("--ablated", str(Path(name).parent)))]) if input.ablations else "",
        lab=lambda wildcards, input: shlex.join(part for option, name in (("--lab", input.lab), ("--audited", input.audited)) if name for part in (option, str(Path(str(name)).parent))),
        experiments=lambda wildcards, input: shlex.join(part for name in input.experiments for part in ("--experiment", str(Path(name).parent))),
        fused=lambda wildcards, input: f"--fused {shlex.quote(str(Path(input.fused).parent))}" if input.fused else "",
        registered=IMAGING / "register",
        study=json.dumps(config, sort_keys=True),
        version=VERSIONS["report"],
    conda: "../../envs/findings.yaml"
    log: RESULTS / "logs" / "report.log",
    shell:
        STEP + "report --tables \"$(dirname {input.results:q})\" --scans {input.scans:q} --exclusions {input.exclusions:q}"
        " --notes {input.notes:q} --splits {input.splits:q} --demographics {input.demographics:q} --packed \"$(dirname {input.packed:q})\" --registered {params.registered:q} --reviewed {input.reviewed:q}"
        " --subgroups {input.subgroups:q} --shift {input.shift:q} --progression \"$(dirname {input.progression:q})\""
        " {params.models} {params.explained} {params.ablations} {params.lab} {params.experiments} --baselines \"$(dirname {input.baselines:q})\" {params.fused} --study {params.study:q} --config {params.config:q}"
        " --figures {output.figures:q} --output {output.page:q}" + LOGGED
