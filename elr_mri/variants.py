"""The ablations of a study, and its noisy-label experiment: each model is a base model with a few keys changed; and which models are looked at closer.

The talk's are derived from the base where the config lists none: width, first kernel, stride in place of the first
pool, depth, normalisation and age, each alone. Plain dicts and the standard library only: the workflow reads this while it
parses, where pydantic need not be installed; `sections` checks what comes out.
"""

from __future__ import annotations

from typing import Any

#: The ways to learn from labels of which some are wrong, by name, as keys of a model: what the lab compares. `lab.methods` adds to them.
#: The ramps of the published ELR+ (of λ, and of the averaged weights' decay over 40,000 steps) are off: they are in steps of a far longer training (docs/decisions/0013-losses.md).
LOSSES: dict[str, dict[str, Any]] = {
    "ce": {},
    "elr": {"elr": {}},
    "elr-weights": {"elr": {"targets": "weights"}},
    "elr-networks": {"elr": {"targets": "networks"}},
    "elr-plus": {"elr": {"targets": "both", "mixup": 1.0}},
    "sop": {"sop": {}, "label_smoothing": 0.0},
    "gce": {"gce": {}, "label_smoothing": 0.0},
    "smoothing": {"label_smoothing": 0.1},
    "early-stopping": {"patience": 5},
}

#: Published number of blocks of the networks that can be deepened.
DEPTHS = {"wide": 4, "wide-paper": 4, "alexnet": 5}
WIDTHS = (1, 2, 4, 8)
FIRST_KERNELS = (3, 5)
NORMS = ("instance", "batch", "group", "none")
AGES = ("none", "sinusoid", "scalar")


def base_of(models: dict[str, dict[str, Any]], ablations: dict[str, Any]) -> str | None:
    """The model that the variants are made from and compared with: the named one, else `wide-age`, else the first."""
    return ablations.get("base") or ("wide-age" if "wide-age" in models else next(iter(models), None))


def changes(models: dict[str, dict[str, Any]], ablations: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each variant changes of the base model, by slug; none in a study without models."""
    base = base_of(models, ablations)
    if base is None:
        return {}
    return ablations.get("variants") or talks(models[base])


def variants(models: dict[str, dict[str, Any]], ablations: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every variant as a whole model, by slug: the base's keys, and its own before them.

    Parameters
    ----------
    models : dict
        `train.models` of a config.
    ablations : dict
        Its section `ablations`, may be empty.
    """
    base = base_of(models, ablations)
    return {slug: {**models[base], **changed} for slug, changed in changes(models, ablations).items()}


def talks(base: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The talk's ablations of a model, each changing one thing; those that its network cannot take are not among them.

    The stride stands in the place of the first pool, which takes as much of the map: early downsampling, at no other change.
    """
    network, width = base["network"], base.get("width", 8)
    norm, age = base.get("norm", "instance"), base.get("age", "none")
    found = {f"width-{w}": {"width": w} for w in WIDTHS if w != width}
    kernels = [k for k in FIRST_KERNELS if k != base.get("first_kernel")]
    found |= {f"first-kernel-{k}": {"first_kernel": k} for k in kernels}
    if base.get("first_pool", True) and not base.get("first_stride"):
        found["first-stride-2"] = {"first_stride": 2, "first_pool": False}
        found["first-kernel-3-stride-2"] = {"first_kernel": 3, "first_stride": 2, "first_pool": False}
    if network in DEPTHS:
        depth = base.get("depth") or DEPTHS[network]
        found |= {f"depth-{depth + more}": {"depth": depth + more} for more in (1, 2)}
    norms = [n for n in NORMS if n != norm and not (network == "resnet18" and n == "none")]
    found |= {f"norm-{n}": {"norm": n} for n in norms}
    return found | {f"age-{a}": {"age": a} for a in AGES if a != age}


def lab_base(models: dict[str, dict[str, Any]], mri: dict[str, Any]) -> str | None:
    """The model that the noisy-label experiment trains: the named one, else `wide`, else the first."""
    return mri.get("base") or ("wide" if "wide" in models else next(iter(models), None))


def lab_models(models: dict[str, dict[str, Any]], lab: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every method of `lab.mri` as a whole model, by the method's name: the base's network, another loss.

    Parameters
    ----------
    models : dict
        `train.models` of a config.
    lab : dict
        Its section `lab`, may be empty.
    """
    mri, losses = lab.get("mri") or {}, LOSSES | (lab.get("methods") or {})
    base = lab_base(models, mri)
    if base is None:
        return {}
    own = ("elr", "sop", "gce", "label_smoothing", "patience")
    network = {key: value for key, value in models[base].items() if key not in own}
    network |= {key: mri[key] for key in ("epochs", "learning_rate") if mri.get(key) is not None}
    return {name: {**network, **losses[name]} for name in mri.get("methods") or ("ce", "elr")}


def looked_at(config: dict[str, Any], step: str) -> list[str]:
    """The models that `subgroups` or `progression` looks at: those that its section names, else the report's reference and the explained model.

    Parameters
    ----------
    config : dict
        A whole config.
    """
    reference = (config.get("report") or {}).get("reference", "volumes")
    named = (config.get(step) or {}).get("models") or [reference, (config.get("explain") or {}).get("model")]
    return list(dict.fromkeys(name for name in named if name))
