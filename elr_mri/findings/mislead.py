"""The report's page on wrong labels: what the noisy-label experiment and the label audit found, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elr_mri import pages
from elr_mri.findings.style import group_title
from elr_mri.findings.words import percent
from elr_mri.provenance import read_json

#: How a method is named to a reader; others by their own names.
NAMES = {"ce": "cross-entropy", "elr": "ELR", "elr-plus": "ELR+", "sop": "SOP", "gce": "generalised cross-entropy"}
#: With fewer trainings of a method than this, what one seed does cannot be told from what the method does.
FEWEST = 3
#: Whose words ELR's targets average.
TARGETS = {
    "outputs": "targets from its own outputs",
    "weights": "targets from its averaged weights",
    "networks": "targets from the other network's outputs",
    "both": "targets from the other network's averaged weights",
}
#: Settings of a loss that have another name in words.
SETTINGS = {"weight": "λ", "beta": "β", "ramp_steps": "λ rises over steps", "ema": "decay of averaged weights", "ema_ramp_steps": "decay rises over steps", "mixup": "mixup α", "u_rate": "rate of u", "v_rate": "rate of v"}  # fmt: skip


def read(lab_dir: Path | None, audit_dir: Path | None, page_folder: Path) -> dict[str, Any] | None:
    """What the page says of wrong labels; None where neither experiment nor audit was made.

    Parameters
    ----------
    lab_dir : path or None
        The folder of `lab mri`: findings.json, figures.
    audit_dir : path or None
        The folder of `lab audit`: audit.json, audit.html.
    page_folder : path
        Where the report lies, which links to the audit's page.
    """
    if lab_dir is None and audit_dir is None:
        return None
    told: dict[str, Any] = {
        "facts": None,
        "trained": [],
        "memorized": [],
        "gained": [],
        "without_gradients": "",
        "mixing": "",
        "stems": {},
        "audit": None,
        "audit_link": None,
    }
    if lab_dir is not None:
        facts = read_json(lab_dir / "findings.json")
        told |= {"facts": facts, "trained": trained(facts), "memorized": memorized(facts), "gained": gained(facts)}
        told["without_gradients"] = " and ".join(map(named, facts["without_gradients"]))
        told["mixing"] = " and ".join(
            named(name) for name, how in facts["trained"].items() if how["voice"] == "average"
        )
        stems = {name: lab_dir / "figures" / name for name in ("memorization", "gradients", "scores")}
        told["stems"] = {f"lab_{name}": stem for name, stem in stems.items() if stem.with_name(f"{name}.png").is_file()}
    if audit_dir is not None:
        told |= {
            "audit": read_json(audit_dir / "audit.json"),
            "audit_link": pages.link(audit_dir / "audit.html", page_folder),
        }
    return told


def named(method: str) -> str:
    """A method's name in a sentence."""
    return NAMES.get(method, method)


def trained(facts: dict[str, Any]) -> list[dict[str, str]]:
    """A line of the table for each method: its name, its loss in words, networks, epochs and training scans."""
    lines = []
    for method, how in facts["trained"].items():
        elr, (least, most) = how["loss"].get("elr") or {}, how["epochs"]
        lines.append(
            {
                "name": named(method),
                "loss": described(how["loss"], how["class_weights"]),
                "networks": "2" if elr.get("targets") in ("networks", "both") else "1",
                "epochs": f"{least}" if least == most else f"{least} to {most}",
                "scans": f"{how['n_training_scans']:,}",
            }
        )
    return lines


def described(loss: dict[str, Any], class_weights: str) -> str:
    """A loss and its settings in words: `ELR, λ 3, β 0.7, targets from its own outputs`. Settings that change nothing are left out."""
    said = []
    for kind in ("elr", "sop", "gce"):
        if (own := loss.get(kind)) is None:
            continue
        said.append(NAMES["elr-plus" if own.get("targets") == "both" else kind])
        averages = own.get("targets") in ("weights", "both")
        for key, value in own.items():
            if key == "targets":
                said.append(TARGETS[value])
            elif key in ("ema", "ema_ramp_steps") and not averages:
                continue
            elif key == "align":
                said += ["targets aligned with the classes' shares"] if value else []
            elif key in ("weight", "beta", "q") or value:
                said.append(f"{SETTINGS.get(key, key)} {value:g}")
    said = said or [NAMES["ce"]]
    said += [f"labels smoothed by {loss['label_smoothing']:g}"] if loss.get("label_smoothing") else []
    said += ["classes weighed alike"] if class_weights == "balanced" else []
    said += [f"stops after {loss['patience']} epochs without a better validation"] if loss.get("patience") else []
    return ", ".join(said)


def memorized(facts: dict[str, Any]) -> list[str]:
    """A sentence for each method: what it says of the wrongly labelled training scans at the end."""
    lines = []
    for method, shares in facts["last_epoch_of_wrong_labels"].items():
        who = "the average of its networks’ weights" if facts["trained"][method]["voice"] == "average" else "the model"
        lines.append(
            f"With {named(method)}, {who} at the end gives {percent(shares['given'])} % of the wrongly labelled training scans their wrong label back and "
            f"{percent(shares['true'])} % their true class{_mean_of(shares['n_seeds'])}."
        )
    return lines


def gained(facts: dict[str, Any]) -> list[str]:
    """A sentence for each group of unseen scans and method: the difference in balanced accuracy with what its interval covers, and, where there are trainings
    enough to judge by, whether it can be told from zero."""
    lines = []
    for row in facts["balanced_accuracy_gained"]:
        n, covers = row["n_seeds"], row["covers"]
        if n < FEWEST:
            verdict = f"{'one training' if n == 1 else 'two trainings'} of each; no verdict"
        elif row["low"] > 0 or row["high"] < 0:
            verdict = "more" if row["low"] > 0 else "less"
        else:
            verdict = "a difference that cannot be told from none"
        over = f"{100 * row['level']:g} % interval over {covers if covers != 'subjects' else 'subjects alone'}"
        points = f"{percent(row['difference'], sign='+')} points ({percent(row['low'], sign='+')} to {percent(row['high'], sign='+')}, {over})"
        lines.append(
            f"{group_title(row['cohort'], row['split'])}: {named(row['model'])} against {named(row['reference'])} in balanced accuracy {points}{_mean_of(n)}: {verdict}."
        )
    return lines


def _mean_of(n: int) -> str:
    """Over how many trainings a number is the mean."""
    return f", mean of {n} trainings" if n > 1 else ""
