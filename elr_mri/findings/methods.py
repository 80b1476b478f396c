"""The methods section of a paper, ready to paste: what this study did, from what its files say of themselves.

A sentence stands here only where the file that it tells of was given: a network's model.json, the cache's meta.json, the saliency
maps. What was not run is not told. Works are marked `[@key]`, see `references.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from elr_mri import config, provenance
from elr_mri.findings.references import numbered

NETWORKS = {
    "wide": "the wide 3D convolutional network of Liu et al. as its released code executes it [@wide]",
    "wide-paper": "the 3D convolutional network of Liu et al. as their paper tables it [@wide]",
    "resnet18": "a 3D ResNet-18 [@resnet,monai]",
    "alexnet": "a 3D AlexNet [@alexnet]",
}
AGES = {
    "none": "",
    "sinusoid": ", age at the scan, to half years, as a sinusoidal embedding [@position] added to the image’s features",
    "scalar": ", age at the scan as a number",
}
NORMS = {"instance": "instance", "batch": "batch", "group": "group", "none": "no"}
SPACES = {
    "affine": "The networks saw the affinely aligned, brain-extracted scan",
    "warped": "The networks saw the deformed, brain-extracted scan",
    "warped-jacobian": "The networks saw the deformed, brain-extracted scan and the logarithm of the deformation’s volume ratio",
}
VOLUMES = {
    "registered": "Volumes of hippocampus and entorhinal cortex were measured in native space by carrying the template’s labels into each scan through both transforms; the intracranial volume is the affine’s scaling factor [@icv].",
    "fusion": "Volumes of hippocampus and entorhinal cortex were measured in native space by joint fusion of manual labels of other people’s scans [@fusion]; the intracranial volume is the affine’s scaling factor [@icv].",
    "freesurfer": "Volumes of hippocampus, entorhinal cortex and the head were read from FreeSurfer’s output [@freesurfer].",
    "synthseg": "Volumes of hippocampus, entorhinal cortex and the head were read from SynthSeg’s output [@synthseg].",
    "cohort": "Volumes of hippocampus, entorhinal cortex and the head were read from the cohorts’ own tables.",
}  # fmt: skip
COHORTS = {"adni": "[@adni]", "nacc": "[@nacc]"}
HEAD_SIZE = {
    "ratio": "each divided by the intracranial volume",
    "residual": "each with its regression on the intracranial volume among training controls taken out [@icv]",
    "none": "uncorrected for head size",
}


def written(
    *,
    study: config.Study,
    counts: Mapping[str, int],
    sources: Sequence[str],
    packed: Mapping[str, Any],
    results: pd.DataFrame,
    evaluated: Mapping[str, Any] | None,
    model_dirs: Sequence[Path],
    ablated: Sequence[str],
    more: Sequence[str] = (),
) -> dict[str, list[str]]:
    """`paragraphs` and `references` of the methods section.

    Parameters
    ----------
    counts : `n_scans`, `n_subjects` kept
    sources : where the volumes come from, as `roi_volumes.tsv` says
    packed : meta.json of the cache
    evaluated : sidecar of results.tsv, where there is one
    model_dirs : folders of which those with a model.json are told
    ablated : the variants that were trained
    more : paragraphs on what was done with the predictions (`methods_after.py`), before the last one
    """
    told = [provenance.read_json(path) for folder in model_dirs if (path := folder / "model.json").is_file()]
    paragraphs = [
        _data(study, counts),
        _images(study, packed, sources),
        *_baseline(study, results),
        *_networks(told),
        *_variants(ablated),
        _statistics(results, evaluated),
        *more,
        _software(told),
    ]
    texts, works = numbered(paragraphs)
    return {"paragraphs": texts, "references": works}


def _data(study: config.Study, counts: Mapping[str, int]) -> str:
    """Whose scans, and how they were split."""
    if study.phantom:
        whose = (
            f"The scans are synthetic: computed heads, deformed from {_anatomies(study.phantom)} with a planted disease effect "
            f"({study.phantom.effect_scale:g} × the literature’s effect sizes), in the download formats of {_named(study, cited=False)}"
        )
    else:
        whose = f"T1-weighted scans came from {_named(study, cited=True)}"
    external = [cohort.name for cohort in study.cohorts if cohort.role == "external"]
    split = study.split
    if split.published:
        how = "Subjects were split into training, validation and test sets as published tables say"
    else:
        how = (
            f"Subjects, never scans, were drawn into training, validation ({100 * split.val_share:g} %) and test sets "
            f"({100 * split.test_share:g} %), with all visits of a subject in one set"
        )
    last = f"; {_and(external)} served for external testing alone" if external else ""
    return (
        f"{whose}: {counts['n_scans']:,} scans of {counts['n_subjects']:,} subjects, each with the diagnosis of its visit "
        f"(cognitively normal, CN; mild cognitive impairment, MCI; Alzheimer’s disease, AD). {how}{last}."
    )


def _anatomies(phantom: config.Phantom) -> str:
    """Whose heads the phantoms are made of."""
    colin = "colin27" in phantom.anatomies
    n = len(phantom.anatomies)
    return ("a single anatomy" if n == 1 else f"{n} anatomies") + (" [@colin]" if colin else "")


def _named(study: config.Study, *, cited: bool) -> str:
    """The cohorts by name, with the work that describes each."""
    names = [
        f"{cohort.name} {COHORTS[cohort.format]}" if cited and cohort.format in COHORTS else cohort.name
        for cohort in study.cohorts
    ]
    return _and(names)


def _images(study: config.Study, packed: Mapping[str, Any], sources: Sequence[str]) -> str:
    """From native scans to what is measured and shown to the networks."""
    settings = (packed.get("settings") or {}).get("register")
    how = config.parse(config.Register, settings, where="meta.json, settings.register") if settings else study.register
    template = {
        "MNI152NLin2009aSym": "the MNI152 template (ICBM 152 non-linear symmetric 2009a) [@mni]",
    }.get(how.template) or (
        f"the template {how.template.removeprefix('templateflow:')} [@templateflow]"
        if how.template.startswith("templateflow:")
        else f"the study’s own template ({Path(how.template).name})"
    )
    warp = {
        "demons": " and by diffeomorphic demons on locally normalised intensities [@demons,lcc]",
        "syn": " and by symmetric normalization (SyN) [@syn]",
        "none": "",
    }[how.warp]
    spacing = packed.get("spacing_mm")
    grid = f" at {spacing:g} mm" if spacing else ""
    seen = SPACES.get(str(packed.get("space")), "The networks saw the brain-extracted scan")
    along = ", the visits of a subject through a template of their own" if how.longitudinal else ""
    return (
        f"Each scan was corrected for intensity non-uniformity [@n4], its brain extracted by registration of a head template with a known brain mask, and "
        f"the brain registered to {template} affinely{warp} (recipe {how.recipe}){along}; scans that failed automatic quality control were left out. "
        f"{seen}{grid}, after a single interpolation, with intensities scaled by white matter. {' '.join(VOLUMES[source] for source in sources if source in VOLUMES)}"
    ).strip()


def _baseline(study: config.Study, results: pd.DataFrame) -> list[str]:
    """The volume baseline, where it was scored."""
    if "volumes" not in set(results["model"]):
        return []
    how = study.baseline
    regions = "hippocampal and entorhinal volumes" if how.features == "auto" else f"the volumes {_and(how.features)}"
    return [
        f"The volume baseline is a multinomial logistic regression [@sklearn] on {regions}, {HEAD_SIZE[how.normalise]}"
        f"{', and age' if how.use_age else ''}, its regularisation chosen by the log-loss on validation scans."
    ]


def _networks(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """The networks and how they were trained; models that differ in their seed alone are told once."""
    if not told:
        return []
    by_slug = {str(facts["slug"]): facts for facts in told}
    n_seeds = len({facts["seed"] for facts in told})
    alike: dict[str, list[str]] = {}
    for slug, facts in by_slug.items():
        alike.setdefault(_network(facts["network"]), []).append(f"{slug} ({_form(facts)})")
    seeds = f" Each was trained {n_seeds} times, from different seeds." if n_seeds > 1 else ""
    lines = [f"{_and(forms)} {'is' if len(forms) == 1 else 'are'} {network}." for network, forms in alike.items()]
    return [f"Networks. {' '.join(lines)}{seeds}", "Training. " + _training(by_slug)]


def _network(network: Mapping[str, Any]) -> str:
    """An architecture in words: whose, width, norm."""
    return f"{NETWORKS.get(network['name'], network['name'])}, width {network['width']}, {NORMS[network['norm']]} normalization"


def _form(facts: Mapping[str, Any]) -> str:
    """What else a network has of its own: loss, age, size."""
    age = AGES[facts["network"]["age"]]
    return f"{_loss(facts.get('model') or {})}{age}, {facts['n_parameters'] / 1e6:.1f} million weights"


def _loss(loss: Mapping[str, Any]) -> str:
    """The loss of a model in words."""
    if elr := loss.get("elr"):
        more = {
            "outputs": "",
            "weights": ", targets from averaged weights",
            "networks": ", targets from a second network",
            "both": ", targets from a second network’s averaged weights",
        }[elr["targets"]]
        mixed = f", mixup α = {elr['mixup']:g} [@mixup]" if elr["mixup"] else ""
        return f"early-learning regularization (λ = {elr['weight']:g}, β = {elr['beta']:g}{more}{mixed}) [@elr]"
    if loss.get("sop"):
        return "sparse over-parameterization [@sop]"
    if gce := loss.get("gce"):
        return f"generalised cross-entropy (q = {gce['q']:g}) [@gce]"
    return "cross-entropy"


def _training(by_slug: Mapping[str, Mapping[str, Any]]) -> str:
    """The shared recipe; what differs between the models is told as a range or a list."""
    settings = [facts["settings"] for facts in by_slug.values() if "optimizer" in (facts.get("settings") or {})]
    if not settings:
        return "The weights were not trained in this study."

    def each(key: str) -> str:
        values = sorted({one[key] for one in settings if one.get(key) is not None})
        return " or ".join(f"{value:g}" for value in values)

    by = {
        "adamw": f"AdamW (weight decay {each('weight_decay')}) [@adamw]",
        "sgd": f"stochastic gradient descent (momentum {each('momentum')}, weight decay {each('weight_decay')})",
    }
    schedules = {"one-cycle": " with a one-cycle schedule [@onecycle]", "constant": ""}
    optimizer = _and(sorted({by[one["optimizer"]] + schedules[one["schedule"]] for one in settings}))
    kept = {
        "last": "the weights of the last epoch were kept",
        "best": "the weights of the best validation epoch were kept",
    }
    shift = {one["shift_max"] for one in settings}
    crops = (
        "at random places" if shift == {None} else f"up to {each('shift_max')} voxels from the centre" if shift != {0} else "at the centre"
    )  # fmt: skip
    blur = (
        f", blurred by up to {(sigma := each('blur_sigma_max'))} voxel{'s' * (sigma != '1')}"
        if any(one["blur_sigma_max"] for one in settings)
        else ""
    )
    return (
        f"{optimizer}; peak learning rate {each('learning_rate')}, batches of {each('batch_size')}, {each('epochs')} epochs; training views were crops of "
        f"{each('crop')}³ voxels {crops}{blur}; {_and(sorted({kept[one['select']] for one in settings}))}. No test or external scan took part in any choice."
    )


def _variants(ablated: Sequence[str]) -> list[str]:
    """The ablations, where they were trained."""
    if len(ablated) < 2:
        return []
    base, *others = ablated
    return [
        f"Ablations. {len(others)} variant{'s' if len(others) > 1 else ''} of {base}, each with one thing changed, were trained and scored in the same way."
    ]


def _statistics(results: pd.DataFrame, evaluated: Mapping[str, Any] | None) -> str:
    """What was scored, and how sure."""
    settings = (evaluated or {}).get("settings") or {}
    draws = f" ({settings['draws']:,} draws)" if "draws" in settings else ""
    return (
        "Statistics. Accuracy, balanced accuracy and the areas under the one-vs-rest ROC curves (each class, micro- and macro-average) were computed on subjects "
        f"that no model had seen, for all methods on the same scans. Intervals are {100 * results['level'].iloc[0]:g} % bootstrap intervals over subjects, all scans of a "
        f"subject drawn together [@bootstrap]{draws}; differences between methods are paired by scan and use the same draws. "
        "Their ends are moved outwards for few subjects [@expanded], by the jackknife’s standard error and fewer degrees of freedom where a few subjects move a score most [@jackknife]; "
        "they are not adjusted for the number of comparisons."
    )


def _software(told: Sequence[Mapping[str, Any]]) -> str:
    """Programs and versions; those of training as the models' own files tell them."""
    here = provenance.versions()
    there = dict(told[0].get("versions") or {}) if told else {}
    lead = f"Software. elr_mri {here['elr_mri']} (Python {here['python']}), run by Snakemake [@snakemake]"
    names = [("antspyx", "ANTsPy", "ants"), ("scikit-learn", "scikit-learn", "sklearn")]
    parts = [f"{title} {here[key]} [@{work}]" for key, title, work in names if key in here]
    parts += [
        f"{title} {there[key]} [@{work}]"
        for key, title, work in (("torch", "PyTorch", "torch"), ("monai", "MONAI", "monai"))
        if key in there
    ]
    return f"{lead}, with {_and(parts)}." if parts else f"{lead}."


def _and(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
