"""Early Alzheimer detection from structural MRI, from downloads to a report.

    download folders --ingest--> scan table --convert, register, measure, pack--> one array cache
        --train, predict, explain--> models, predictions, saliency --baseline, fuse, evaluate, report--> results/report.html

A zone is one package folder, one rule file and one results folder of the same name:
scans, imaging, learning, findings. A rule names files; `python -m elr_mri <step>` computes.

    snakemake --cores 8                                          the built-in phantom study
    snakemake --cores 8 --use-conda --configfile config/adni_nacc.yaml    a real study
    snakemake --cores 8 ablations                                variants of one model, and their table in the report
    snakemake --cores 8 lab                                       the noisy-label experiments, and their page in the report
"""

# Snakemake would merge a given --configfile into the default one, and a real study would inherit the phantom's keys.
if not workflow.config_settings.configfiles:

    configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/scans.smk"
include: "workflow/rules/imaging.smk"
include: "workflow/rules/learning.smk"
include: "workflow/rules/lab.smk"
include: "workflow/rules/findings.smk"


report: "workflow/report/study.rst"


rule all:
    default_target: True
    input:
        RESULTS / "report.html",


rule lab:
    input:
        lab_can_be_made,
        rules.all.input,
        rules.lab_linear.output,
        rules.lab_images.output,
        rules.lab_mri.output if LAB_MODELS else [],
        rules.lab_tables.output,


rule ablations:
    input:
        rules.all.input,
        ABLATION_SCORES if ABLATED else [],
