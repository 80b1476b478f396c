"""The model card: one page on what a model is, what it was trained on, how well it does, and what it is not for.

Sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Every statement is read from `model.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elr_mri.learning.checkpoint import empty_model, read_facts
from elr_mri.learning.networks import n_parameters
from elr_mri.provenance import write_text

UNKNOWN = "not stated in the imported file"


def write_card(folder: Path | str) -> None:
    """Write `model.md` of a model folder, from its `model.json`."""
    write_text(Path(folder) / "model.md", card(read_facts(folder)))


def card(facts: dict[str, Any]) -> str:
    """The card as Markdown."""
    sections = {
        "Intended use": _use(facts),
        "Limits": _limits(facts),
        "Data": _data(facts),
        "Preprocessing": _preprocessing(facts["preprocessing"], facts["network"]),
        "Network": _network(facts["network"], facts),
        "Training": _training(facts),
        "Validation": _validation(facts),
        "How to predict with it": _how(facts),
        "Licence": [facts["licence"]],
        "Versions": [f"- {name} {version}" for name, version in facts["versions"].items()],
    }
    head = f"# {facts['slug']}, seed {facts['seed']}\n\n{_summary(facts)}\n"
    return head + "".join(f"\n## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())


def _summary(facts: dict[str, Any]) -> str:
    """One sentence, and a warning where the scans were phantoms."""
    told = f"Classifies a T1-weighted MRI of the brain as {', '.join(facts['classes'])}."
    if (facts["trained_on"] or {}).get("synthetic"):
        told += "\n\n**Trained on computed phantoms, not on people: what it says about a person means nothing.**"
    return told


def _use(facts: dict[str, Any]) -> list[str]:
    return [
        "Research on the classification of Alzheimer's disease from structural MRI: comparing methods, replicating a",
        "published result, explaining what a network looks at. **Not a medical device; not for diagnosis or treatment.**",
    ]


def _limits(facts: dict[str, Any]) -> list[str]:
    """What a reader must know before believing a number."""
    trained, network, grid = facts["trained_on"], facts["network"], facts["preprocessing"]
    field = network["crop"] * float(grid["spacing_mm"])
    lines = [
        f"- It sees the central {network['crop']}³ voxels ({field:g} mm a side) of the grid below and nothing outside of them.",
        f"- It knows {', '.join(facts['classes'])} only: another disease is called one of these.",
        "- Its probabilities are softmax outputs that are not calibrated.",
    ]
    if trained:
        youngest, oldest = trained["age_years"]
        lines.append(
            f"- It was trained on people of {youngest:.0f} to {oldest:.0f} years of {', '.join(trained['cohorts'])}; on"
            " other ages, scanners or populations its accuracy is unknown."
        )
    else:
        lines += [
            "- Whom it was trained on is not stated in the file. The published weights: ADNI, 463 subjects (Liu et al. 2019).",
            "- It was trained on scans that SPM deformed to MNI space, skull included. On the brain-extracted scans of"
            " this pipeline the published accuracy does not hold: measure it on labelled scans of yours first.",
        ]
    if network["age"] == "sinusoid":
        lines.append("- Ages count in half years from 0 to 119.5; older ones are taken as 119.5.")
    return lines


def _data(facts: dict[str, Any]) -> list[str]:
    trained = facts["trained_on"]
    if not trained:
        source = facts["imported"]
        return [
            f"- imported from `{source['file']}` (SHA-256 {source['sha256']}), layout of {source['layout']}",
            f"- cohorts, subjects, scans, classes and ages: {UNKNOWN}",
        ]
    per_class = ", ".join(f"{name} {n}" for name, n in trained["scans_per_class"].items())
    return [
        f"- cohorts: {', '.join(trained['cohorts'])}{' (synthetic)' if trained['synthetic'] else ''}",
        f"- training scans: {trained['n_scans']} of {trained['n_subjects']} subjects ({per_class})",
        f"- ages: {trained['age_years'][0]:.1f} to {trained['age_years'][1]:.1f} years",
        *(f"- {name}: SHA-256 {digest}" for name, digest in facts["data"].items()),
        *["- **labels were replaced**: classes are those of a table of given labels, not the diagnoses"]
        * ("labels" in facts["data"]),
    ]


def _preprocessing(told: dict[str, Any], network: dict[str, Any]) -> list[str]:
    """The grid and what happens to its values."""
    grid = "×".join(map(str, told["shape"]))
    scaling = {
        "scan": "each scan to [0, 1] by its own extremes",
        "voxel": "each voxel centred and scaled by the training scans",
    }
    lines = [
        f"- grid: {grid} voxels of {told['spacing_mm']:g} mm, RAS+; channels: {', '.join(told['channels'])}",
        f"- space: {told.get('space', UNKNOWN)}; template: {told.get('template', UNKNOWN)}; stored as {told.get('dtype', 'any type')}",
        f"- standardisation: `{told['standardise']}`, {scaling[told['standardise']]}; then the central {network['crop']}³ voxels",
    ]
    return lines


def _network(network: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    lines = [f"- {key}: {value}" for key, value in network.items() if value is not None]
    if (n := network.get("n_networks", 1)) > 1:
        lines.append(f"- {n} such networks, each with weights of its own; the scores are the mean of their logits")
    return [*lines, f"- parameters: {n_parameters(empty_model(facts).network):,}"]


def _training(facts: dict[str, Any]) -> list[str]:
    """Every key of the recipe, and the model's own."""
    if "settings" not in facts:
        return [f"Recipe: {UNKNOWN}."]
    told = {f"model.{key}": value for key, value in facts["model"].items()} | facts["settings"]
    return [
        f"- {key}: {value}" for key, value in told.items() if value is not None and not key.startswith("model.network")
    ]


def _validation(facts: dict[str, Any]) -> list[str]:
    """Figures of the kept epoch; never of the test scans, which choose nothing."""
    if "selected" not in facts:
        return [f"Figures: {UNKNOWN}."]
    kept = facts["selected"]
    lines = [f"Epoch {kept['epoch']} was kept (rule: {kept['rule']}). Validation scans, central crop:", ""]
    lines += [f"- {key.removeprefix('val_')}: {value:.4f}" for key, value in kept.items() if key.startswith("val_")]
    return [*lines, "", "Test and external figures stand in the report of the study, with intervals."]


def _how(facts: dict[str, Any]) -> list[str]:
    lines = [
        "    elr-mri predict --model FOLDER --packed CACHE --scans scans.tsv --splits splits.tsv --output predictions.tsv"
    ]
    if facts["preprocessing"].get("settings"):
        age = "" if facts["network"]["age"] == "none" else " --age YEARS"
        lines.append(f"    elr-mri predict-scan SCAN --model FOLDER{age} --out OUT")
    return [*lines, "    elr-mri export --model FOLDER --format onnx --output model.onnx"]
