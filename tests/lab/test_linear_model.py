"""The linear model shows what theory says of it: early learning, memorization, and that ELR stays; its gradients are those of the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from elr_mri.cli import app
from elr_mri.config import METHODS, Elr, Linear, Loss
from elr_mri.errors import BadInput
from elr_mri.findings import elsewhere
from elr_mri.lab.curves import gradients, memorization
from elr_mri.lab.descent import autograd_difference, descend, expected_cosine, sample
from elr_mri.lab.linear import binned, follow, linear
from elr_mri.provenance import read_json

SMALL = Linear(n_examples=120, n_dimensions=180, iterations=600, sigmas=())


def test_a_method_that_stops_early_is_refused_where_nothing_stops_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="early-stopping, with patience"):
        linear(SMALL, {name: METHODS[name] for name in ("ce", "early-stopping")}, out_dir=tmp_path)


def wrong_share(settings: Linear, loss: Loss, column: str = "true") -> np.ndarray:
    """(n_iterations,): of the examples with a wrong label, the share that is predicted as `column` says."""
    data = sample(settings, settings.sigma)
    shares = memorization(descend(data, settings, loss).said, data.true, data.given)
    return shares.loc[shares["group"] == "wrong", column].to_numpy()


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_learns_early_and_then_memorizes_and_elr_stays(seed: int) -> None:
    settings = SMALL.model_copy(update={"seed": seed})
    plain, held = wrong_share(settings, METHODS["ce"]), wrong_share(settings, METHODS["elr"])
    assert plain[0] < 0.65 and plain.max() > plain[0] + 0.15 and plain.argmax() < 100  # early learning
    assert plain[-1] < 0.05 and wrong_share(settings, METHODS["ce"], "given")[-1] > 0.95  # memorization
    assert held[-1] > 0.9 and held[-1] > plain.max()


@pytest.mark.parametrize("seed", range(3))
def test_the_first_phase_is_as_theorem_1_says(seed: int) -> None:
    settings = SMALL.model_copy(update={"n_examples": 1000, "n_dimensions": 1200, "iterations": 12, "seed": seed})
    data = sample(settings, 0.2)
    told = descend(data, settings, METHODS["ce"])
    path = follow(data, told)
    assert path["step_cosine"][0] == pytest.approx(expected_cosine(settings, 0.2), abs=0.08)
    assert (path["step_cosine"] > 0.3).all()  # the steps stay well correlated with v
    assert (path["pull_clean"] + path["pull_wrong"] > 0).all() and (path["pull_wrong"] < 0).all()
    slopes = gradients(told.said, data.true, data.given, METHODS["ce"]).pivot(
        index="epoch", columns="group", values="gradient"
    )
    assert slopes["clean"].is_monotonic_decreasing and slopes["wrong"].is_monotonic_increasing
    assert path["new_accuracy"].iloc[-1] > path["new_accuracy"][0] + 0.2


@pytest.mark.parametrize(
    "loss", [Loss(), Loss(elr=Elr()), Loss(elr=Elr(weight=7, beta=0.9)), Loss(label_smoothing=0.2)]
)
@pytest.mark.parametrize("iteration", [0, 1, 7, 20, 45])
def test_the_closed_form_is_the_gradient_of_the_loss(loss: Loss, iteration: int) -> None:
    settings = SMALL.model_copy(update={"iterations": 50})
    data = sample(settings, settings.sigma)
    assert autograd_difference(data, descend(data, settings, loss), loss, iteration) < 1e-5


def test_the_closed_form_holds_at_the_end_of_memorization() -> None:
    data = sample(SMALL, SMALL.sigma)
    assert autograd_difference(data, descend(data, SMALL, Loss()), Loss(), SMALL.iterations - 1) < 1e-5


def test_elr_pulls_wrongly_labelled_examples_towards_their_true_class() -> None:
    data = sample(SMALL, SMALL.sigma)
    plain, held = (follow(data, descend(data, SMALL, METHODS[name])) for name in ("ce", "elr"))
    assert (plain["pull_wrong"] < 0).all() and held["pull_wrong"].max() > 0
    assert held["weights_cosine"].iloc[-1] > 0.5 > plain["weights_cosine"].iloc[-1] + 0.2


def test_without_wrong_labels_there_is_nothing_to_memorize(tmp_path: Path, capsys) -> None:
    linear(SMALL.model_copy(update={"share": 0.0, "iterations": 30}), {"ce": Loss()}, out_dir=tmp_path)
    assert "no label is wrong" in capsys.readouterr().out


def test_the_examples_are_what_the_settings_say() -> None:
    data = sample(SMALL.model_copy(update={"n_examples": 2000}), 0.3)
    assert np.linalg.norm(data.v) == pytest.approx(1) and (data.given != data.true).mean() == pytest.approx(0.4)
    residual = data.x - np.outer(2 * data.true - 1, data.v)
    assert residual.std() == pytest.approx(0.3, rel=0.01) and residual.mean() == pytest.approx(0, abs=0.003)


def test_binned_iterations_keep_means_and_groups() -> None:
    table = pd.DataFrame({"epoch": np.arange(1, 101), "group": "clean", "gradient": np.arange(100) % 2})
    both = binned(pd.concat([table, table.assign(group="wrong", gradient=5.0)]))
    assert set(both["group"]) == {"clean", "wrong"} and len(both) < 100
    assert (both.loc[both["group"] == "wrong", "gradient"] == 5).all()
    assert both["epoch"].iloc[0] == 1
    assert both.loc[both["group"] == "clean", "gradient"].iloc[-2] == pytest.approx(0.5, abs=0.1)


def test_the_command_writes_tables_figures_and_findings(tmp_path: Path) -> None:
    config = '{"linear": {"n_examples": 100, "n_dimensions": 150, "iterations": 400, "sigmas": [0.2, 0.6]}}'
    runs = [tmp_path / name for name in ("a", "b")]
    for out in runs:
        done = CliRunner().invoke(app, ["lab", "linear", "--output", str(out), "--config", config])
        assert done.exit_code == 0, done.output
        assert done.output.count("\n") == 3 and "repeat the wrong label" in done.output and "theory" in done.output
    names = {path.name for path in runs[0].iterdir()}
    stems = ("shares", "gradients", "direction", "sigmas")
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("tsv", "png", "svg")} | {
        "findings.json",
        "findings.json.json",
    }
    assert all((runs[0] / n).read_bytes() == (runs[1] / n).read_bytes() for n in names if n != "findings.json.json")
    found = read_json(runs[0] / "findings.json")["methods"]
    shares = pd.read_csv(runs[0] / "shares.tsv", sep="\t")
    wrong = shares[(shares["group"] == "wrong") & (shares["method"] == "ce")].reset_index(drop=True)
    assert found["ce"]["peak"]["wrong_predicted_true"] == pytest.approx(wrong["true"].max(), abs=1e-4)
    assert found["ce"]["end"]["wrong_memorized"] == pytest.approx(wrong["given"].iloc[-1], abs=1e-4)
    assert found["elr"]["end"]["wrong_predicted_true"] > found["ce"]["end"]["wrong_predicted_true"] + 0.5
    (told,) = elsewhere.read([runs[0].rename(tmp_path / "linear")], tmp_path)
    end = f"{100 * found['ce']['end']['wrong_predicted_true']:.1f} % at the end (400)"
    assert told["lines"][0].startswith("Cross-entropy: of 40 wrong labels among 100") and end in told["lines"][0]
    assert told["link"] == "linear/findings.json" and told["stem"].with_name("shares.svg").is_file()
    with pytest.raises(BadInput, match="expected a folder of `lab`: linear, images, tables, got b"):
        elsewhere.read([runs[1]], tmp_path)


def test_aligned_targets_are_taken_as_they_are(tmp_path: Path) -> None:
    """The lab's methods serve all its rooms, so that `snakemake lab` with aligned ELR runs here, too."""
    loss = {"weight": 3.0, "beta": 0.7}
    told = [
        linear(SMALL, {"elr": Loss(elr=Elr(**loss, align=align))}, out_dir=tmp_path / str(align))
        for align in (True, False)
    ]
    assert told[0] == told[1]


def test_a_method_without_a_closed_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="got sop"):
        linear(SMALL, {"ce": Loss(), "sop": METHODS["sop"]}, out_dir=tmp_path)
