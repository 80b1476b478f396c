"""Tables of ROI volumes: every layout is read into one form, no choice looks at a test label, wrong labels stay where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from elr_mri.config import METHODS, Candidate, Elr, Lab, Loss, Noise, RoiPhantom, TableFit, Tables, parse
from elr_mri.errors import BadInput
from elr_mri.findings import elsewhere
from elr_mri.findings.metrics import weighted_balanced_accuracy
from elr_mri.imaging.labels import ROI, ROI_TABLE, VOLUMES
from elr_mri.lab import table_choice
from elr_mri.lab.features import features
from elr_mri.lab.fit import fit
from elr_mri.lab.noise import wrong_labels
from elr_mri.lab.roi import read_roi
from elr_mri.lab.table_choice import TRIAL_DRAW, check_budgets, choose, grid_of
from elr_mri.lab.table_runs import Data, Run, candidate, mlp, outcome
from elr_mri.lab.table_scores import differences, draw_accuracies, holm, seed_shares
from elr_mri.lab.tables import tables
from elr_mri.lab.truth import TRUTH
from elr_mri.phantom.roi_tables import draw_table, roi_tables
from elr_mri.scans.table import CLASSES, SCANS, SPLIT

SMALL = RoiPhantom(n_train=40, n_val=20, n_test=20, n_external=20)
FIT = TableFit(epochs=3, batch_size=64)
LESS = {"shares": (0.4,), "seeds": (0, 1), "trial_seeds": 1, "fit": FIT, "draws": 100, "hidden": (8,)}
GRIDS = {
    "ce": (Candidate(weight_decay=1e-3), Candidate(weight_decay=0.1)),
    "elr": (Candidate(weight=1.0, beta=0.7), Candidate(weight=3.0, beta=0.9)),
    "sop": (Candidate(u_rate=1.0), Candidate(u_rate=10.0)),
}


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return draw_table(SMALL)


def settings(folder: Path, frame: pd.DataFrame, **more) -> Tables:
    frame.to_csv(folder / "roi.csv", index=False)
    return Tables(path=str(folder / "roi.csv"), grids=GRIDS, **(LESS | more))


def data(own: Tables, folder: Path, noise: Noise | None = None) -> Data:
    table = read_roi(own)
    return Data(table, str(len(table.scans)), noise or Noise(), own, folder / "runs")


def published(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as the authors' volume tables have them: commas, an unnamed first column, aseg and aparc names, and much that is no region."""
    return frame.drop(columns=["cohort", "split", "sex"]).assign(
        **{"mmse": 30, "cdr_sb": 0.5, "hippocampus_vol": 1.0, "apoe4": 1, "BrainSegVol": 1e6, "SurfaceHoles": 9, "BrainSegVol-to-eTIV": 0.7},
        **{"Measure:volume": frame["participant_id"] + "_" + frame["session_id"] + "_T1w", "5th-Ventricle": 0.0},
    )  # fmt: skip


def test_one_table_with_freesurfer_columns(tmp_path: Path, drawn: pd.DataFrame) -> None:
    table = read_roi(settings(tmp_path, drawn))
    assert len(table.regions) == 105 and table.regions[0] == "left-lateral-ventricle"
    first = table.scans.iloc[0]
    assert first["intracranial"] == drawn["EstimatedTotalIntraCranialVol"].iloc[0]
    assert first["left-hippocampus"] == drawn["Left-Hippocampus"].iloc[0]
    assert [CLASSES[label] for label in table.scans["label"]] == drawn["diagnosis"].tolist()
    # as asegstats2table names scans, R spells columns, and without a split: one is drawn, and no subject is torn
    bare = drawn.drop(columns=["participant_id", "session_id", "split", "cohort"]).rename(
        columns={"Left-Hippocampus": "Left.Hippocampus"}
    )
    bare.insert(0, "Measure:volume", drawn["participant_id"] + "_" + drawn["session_id"] + "_T1w")
    again = read_roi(settings(tmp_path, bare))
    assert set(again.regions) == set(table.regions)
    assert (
        set(again.scans["split"]) == {"train", "val", "test"}
        and again.scans.groupby("subject_id")["split"].nunique().max() == 1
    )


def test_one_published_table_for_each_split(tmp_path: Path, drawn: pd.DataFrame) -> None:
    paths = {}
    for split, rows in drawn.groupby("split"):
        rows = published(rows)
        rows = rows.drop(columns="lh_insula_volume") if split == "external" else rows
        paths[split] = str(tmp_path / f"{'NACC' if split == 'external' else f'ADNI_{split}'}_volumes.tsv")
        rows.to_csv(paths[split])  # commas, whatever the name says
    table = read_roi(Tables(**paths, grids=GRIDS, **LESS))
    assert "lh_insula_volume" not in table.regions and "5th-ventricle" in table.regions
    assert not {"mmse", "cdr_sb", "hippocampus_vol", "apoe4", "brainsegvol", "surfaceholes"} & set(table.scans)
    assert table.scans["split"].value_counts().to_dict() == drawn["split"].value_counts().to_dict()
    _, names = features(table, table.scans["label"].to_numpy()[table.rows("train")], Tables(**paths, use_age=True))
    assert "age_years" in names and not any("5th" in name for name in names)


@pytest.mark.parametrize("layout", ["roi_volumes.tsv", "measure"])
def test_our_own_volumes_beside_the_scan_table(tmp_path: Path, drawn: pd.DataFrame, layout: str) -> None:
    drawn = drawn.groupby(["split", "diagnosis"]).head(2).reset_index(drop=True)
    scan_id = drawn["participant_id"].str.removeprefix("sub-") + "_" + drawn["session_id"]
    sides = {"hippocampus_left": "Left-Hippocampus", "hippocampus_right": "Right-Hippocampus", "entorhinal_left": "lh_entorhinal_volume", "entorhinal_right": "rh_entorhinal_volume"}  # fmt: skip
    volumes = pd.DataFrame({ours: drawn[theirs] for ours, theirs in sides.items()})
    volumes["hippocampus"] = volumes["hippocampus_left"] + volumes["hippocampus_right"]
    volumes["entorhinal"] = volumes["entorhinal_left"] + volumes["entorhinal_right"]
    volumes["intracranial"] = drawn["EstimatedTotalIntraCranialVol"]
    scans = pd.DataFrame(
        {"scan_id": scan_id, "cohort": drawn["cohort"], "subject_id": drawn["participant_id"], "session_id": drawn["session_id"], "months": drawn["session_id"].str[5:].astype(int),
         "age_years": drawn["age"], "sex": drawn["sex"], "diagnosis": drawn["diagnosis"], "image_path": scan_id + ".nii"}
    )  # fmt: skip
    scans = scans.assign(**{column.name: np.nan for column in SCANS.columns if column.name not in scans})
    SCANS.write(scans, tmp_path / "scans.tsv")
    splits = (
        drawn[["cohort", "participant_id", "split"]].drop_duplicates().rename(columns={"participant_id": "subject_id"})
    )
    SPLIT.write(splits.assign(fold=pd.NA, sessions=pd.NA), tmp_path / "splits.tsv")
    path = tmp_path / layout
    if layout == "measure":
        for name, row in zip(scan_id, volumes[list(VOLUMES)].to_numpy(), strict=True):
            (path / name).mkdir(parents=True)
            ROI.write(pd.DataFrame({"region": VOLUMES, "volume_mm3": row}), path / name / f"{name}_volumes.tsv")
    else:
        ROI_TABLE.write(volumes.assign(scan_id=scan_id, source="freesurfer", note=pd.NA), path)
    own = Tables(path=str(path), scans=str(tmp_path / "scans.tsv"), splits=str(tmp_path / "splits.tsv"))
    table = read_roi(own)
    assert table.regions == tuple(sides)
    assert table.scans["split"].value_counts().to_dict() == drawn["split"].value_counts().to_dict()
    turned = scans["diagnosis"].map({"CN": "MCI", "MCI": "AD", "AD": "CN"})
    truth = scans[["cohort", "months"]].assign(subject=scans["subject_id"].str.removeprefix("sub-"), true_label=turned)
    TRUTH.write(truth, tmp_path / "visits.tsv")
    again = read_roi(own, tmp_path / "visits.tsv")
    assert [CLASSES[label] for label in again.scans["label"]] == turned.tolist()
    assert "visits.tsv" in again.digests and again.digests != table.digests
    SCANS.write(scans.iloc[1:], tmp_path / "scans.tsv")
    with pytest.raises(BadInput, match="every measured scan"):
        read_roi(Tables(path=str(path), scans=str(tmp_path / "scans.tsv")))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.assign(split=["train", "test"] * (len(f) // 2) + ["train"] * (len(f) % 2)), "every subject in one split"),
        (lambda f: f.drop(columns=[c for c in f if "Left" in c or "Right" in c or ("_" in c and c[0] in "lrC") or c[0].isdigit()] + ["CSF", "Brain-Stem", "WM-hypointensities", "Optic-Chiasm"]), "columns of regions"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "each scan once"),
        (lambda f: f[(f["split"] != "test") | (f["diagnosis"] != "AD")], "test scans of CN, MCI and AD"),
        (lambda f: f.drop(columns="diagnosis"), "the column DIAGNOSIS"),
        (lambda f: f.assign(participant_id=None), "a subject in each row"),
        (lambda f: f.assign(diagnosis=f["diagnosis"].map(CLASSES.index)), "diagnoses such as CN, MCI and AD"),
        (lambda f: f.drop(columns="session_id"), "by a column session_id"),
        (lambda f: f.assign(**{"Left-Hippocampus": f["Left-Hippocampus"].map(lambda v: f"{v:.1f}".replace(".", ","))}), "no number in left-hippocampus"),
        (lambda f: f.assign(**{"Left.Hippocampus": 1.0}), "one column for each region"),
        (lambda f: f.assign(split=f["split"].where(f.index > 5)), "got a blank cell"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_in_one_line(tmp_path: Path, drawn: pd.DataFrame, change, told: str) -> None:
    with pytest.raises(BadInput, match=told) as caught:
        read_roi(settings(tmp_path, change(drawn)))
    assert "\n" not in str(caught.value)


def test_a_truth_without_a_scan_table_is_refused(tmp_path: Path, drawn: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="scans.tsv beside the truth"):
        read_roi(settings(tmp_path, drawn), tmp_path / "visits.tsv")


def test_rows_of_another_diagnosis_are_counted(tmp_path: Path, drawn: pd.DataFrame) -> None:
    other = drawn.assign(diagnosis=["FTD", None, *drawn["diagnosis"][2:]])
    table = read_roi(settings(tmp_path, other))
    assert table.left_out == {"other-diagnosis": 1, "no-diagnosis": 1} and len(table.scans) == len(drawn) - 2


def test_cells_and_columns_without_numbers_are_told(tmp_path: Path, drawn: pd.DataFrame, capsys) -> None:
    holed = drawn.astype({"Left-Hippocampus": object})
    holed.loc[3, "Left-Hippocampus"] = "see note"
    holed["Right-Hippocampus"] = holed["Right-Hippocampus"].where(holed["split"] != "train")
    table = read_roi(settings(tmp_path, holed))
    told = capsys.readouterr().out
    assert "1 cells" in told and "'see note' in left-hippocampus" in told
    assert "blank in all training scans and left out: right-hippocampus (1)" in told
    assert "left-hippocampus" in table.regions and "right-hippocampus" not in table.regions


@pytest.mark.parametrize(
    ("change", "keys", "told"),
    [
        (lambda f: f.groupby(["split", "diagnosis"]).head(3), {}, "lab.tables.normalise: residual: expected at least 20"),
        (lambda f: f.drop(columns="EstimatedTotalIntraCranialVol"), {}, "intracranial of some training scan"),
        (lambda f: f.drop(columns="age"), {"use_age": True}, "use_age: false"),
    ],
)  # fmt: skip
def test_what_the_features_lack_is_told_by_the_key_that_mends_it(
    tmp_path: Path, drawn: pd.DataFrame, change, keys: dict, told: str
) -> None:
    own = settings(tmp_path, change(drawn), **keys)
    table = read_roi(own)
    with pytest.raises(BadInput, match=told):
        features(table, table.scans["label"].to_numpy()[table.rows("train")], own)


def test_noise_that_needs_a_reference_model_is_refused(tmp_path: Path, drawn: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="lab.noise.kind"):
        tables(Lab(tables=settings(tmp_path, drawn), noise=Noise(kind="instance")), tmp_path / "out")


def test_features_are_standardised_by_the_training_scans_and_blanks_are_told_to_the_network(
    tmp_path: Path, drawn: pd.DataFrame
) -> None:
    holed = drawn.copy()
    holed.loc[holed.index[::7], "Left-Hippocampus"] = np.nan
    own = settings(tmp_path, holed)
    table = read_roi(own)
    train = table.rows("train")
    given = table.scans["label"].to_numpy()[train]
    matrix, names = features(table, given, own)
    np.testing.assert_allclose(matrix[train].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(matrix[train].std(axis=0), 1, atol=1e-5)
    blank = matrix[:, names.index("left-hippocampus missing")]
    assert (blank[::7] > 0).all() and (np.delete(blank, np.s_[::7]) < 0).all()
    moved = table.scans.copy()
    moved.loc[table.rows("test"), list(table.regions)] *= 3.0
    other, _ = features(type(table)(moved, table.regions, {}, {}), given, own)
    np.testing.assert_array_equal(other[train], matrix[train])
    with pytest.raises(BadInput, match="left-hippocampus of every scan, got 62 of 433 blank"):
        features(table, given, own.model_copy(update={"missing": "refuse"}))


def test_wrong_labels_are_in_training_and_validation_only(tmp_path: Path, drawn: pd.DataFrame) -> None:
    made = data(settings(tmp_path, drawn), tmp_path)
    true = made.table.scans["label"].to_numpy()
    for split in ("train", "val"):
        given, own = made.given(split, 0.4, 3), true[made.table.rows(split)]
        assert 0.25 < (given != own).mean() < 0.55 and np.abs(given - own).max() == 1
        np.testing.assert_array_equal(made.given(split, 0.0, 3), own)
        assert (given != made.given(split, 0.4, 4)).any()
    for split in ("test", "external"):
        np.testing.assert_array_equal(made.given(split, 0.4, 3), true[made.table.rows(split)])
    only = data(made.settings, tmp_path, Noise(splits=("train",)))
    np.testing.assert_array_equal(only.given("val", 0.4, 3), true[only.table.rows("val")])


def test_no_choice_looks_at_a_test_label(tmp_path: Path, drawn: pd.DataFrame) -> None:
    unseen = drawn["split"].isin(["test", "external"])
    shuffled = drawn.copy()
    shuffled.loc[unseen, "diagnosis"] = shuffled.loc[unseen, "diagnosis"].sample(frac=1, random_state=0).to_numpy()
    assert (shuffled["diagnosis"] != drawn["diagnosis"]).any()
    told = []
    for name, frame in (("true", drawn), ("shuffled", shuffled)):
        (tmp_path / name).mkdir()
        made = data(settings(tmp_path / name, frame), tmp_path / name)
        told.append([choose(m, METHODS[m], GRIDS[m], 0.4, made) for m in GRIDS])
    for (loss, how, lines), (other_loss, other_how, other_lines) in zip(*told, strict=True):
        assert (loss, how) == (other_loss, other_how)
        pd.testing.assert_frame_equal(lines, other_lines)
        assert (
            lines["chosen"].sum() == 1
            and lines.loc[lines["chosen"] == 1, "val_balanced_accuracy"].item() == lines["val_balanced_accuracy"].max()
        )


def test_among_equal_trials_the_order_of_the_scans_decides(tmp_path: Path, drawn: pd.DataFrame, monkeypatch) -> None:
    made = data(settings(tmp_path, drawn), tmp_path)
    given = made.given("val", 0.0, TRIAL_DRAW)
    likes = np.eye(3)[given]
    dull = np.where(np.arange(3) == 1, -9.0, 0.0) + np.array([2.0, 0, 0])  # says CN of everyone
    told = {1: np.tile(dull, (len(given), 1)), 2: dull + 0.1 * likes, 3: dull - 0.1 * likes}
    monkeypatch.setattr(table_choice, "outcome", lambda run, _: {"last_val": told[run.fit.epochs]})
    _, fit, lines = choose("ce", METHODS["ce"], [Candidate(epochs=n) for n in told], 0.0, made)
    assert lines["val_balanced_accuracy"].nunique() == 1 and fit.epochs == 2
    assert lines["val_macro_auc"].idxmax() == 1 and lines["chosen"].tolist() == [0, 1, 0]


def test_a_method_is_searched_no_harder_than_another_and_only_by_its_own_keys() -> None:
    with pytest.raises(BadInput, match="ce 1, elr 2"):
        check_budgets({"ce": GRIDS["ce"][:1], "elr": GRIDS["elr"]})
    loss, fit = candidate(METHODS["elr-weights"], FIT, Candidate(weight=9.0, weight_decay=0.5))
    assert (
        loss.elr.weight == 9.0
        and loss.elr.targets == "weights"
        and fit.weight_decay == 0.5
        and fit.epochs == FIT.epochs
    )
    for method, key in (("ce", {"u_rate": 1.0}), ("sop", {"align": True})):
        with pytest.raises(BadInput, match=next(iter(key))):
            candidate(METHODS[method], FIT, Candidate(**key))


def test_the_default_trials_are_as_many_for_each_method_and_align_the_targets() -> None:
    check_budgets({method: grid_of(method, METHODS[method], {}) for method in METHODS})
    loss, _ = candidate(METHODS["elr"], TableFit(), grid_of("elr", METHODS["elr"], {})[0])
    assert loss.elr.align and not METHODS["elr"].elr.align


@pytest.mark.parametrize("seed", [0, 1])
def test_aligned_targets_keep_the_middle_class(seed: int) -> None:
    """Of three classes in order, 40 % of whose labels went to a neighbour, ELR forgets one; with aligned targets it says all three."""

    def recalls(align: bool) -> np.ndarray:
        rng = np.random.default_rng(seed)
        true = np.arange(600) % 3
        x = true[:, None] + rng.normal(scale=0.8, size=(600, 1)) + rng.normal(size=(600, 20))
        x = torch.from_numpy(((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32))
        given = torch.from_numpy(wrong_labels(true, 3, Noise(seed=seed)).given)
        loss, how = Loss(elr=Elr(weight=7.0, beta=0.7, align=align)), TableFit(epochs=40, batch_size=64)
        judged = {"test": (x[300:], torch.from_numpy(true[300:]))}
        quiet = {"progress": lambda line: None}
        told = fit(lambda: mlp(20, (16,), 0.0), x[:300], given[:300], 3, how, loss, seed=seed, judged=judged, **quiet)
        said = told.judged["test"].argmax(axis=1)
        return np.array([(said[true[300:] == k] == k).mean() for k in range(3)])

    assert recalls(False).min() < 0.05
    assert recalls(True).min() > 0.25


def test_the_same_config_gives_the_same_tables_and_finished_runs_are_not_made_again(
    tmp_path: Path, drawn: pd.DataFrame, monkeypatch
) -> None:
    lab = Lab(tables=settings(tmp_path, drawn))
    quiet = {"tell": lambda line: None}
    tables(lab, tmp_path / "a", **quiet)
    tables(lab, tmp_path / "b", **quiet)
    files = [p.name for p in sorted((tmp_path / "a").iterdir()) if p.is_file() and p.name != "findings.json.json"]
    assert {
        "results.tsv",
        "seeds.tsv",
        "differences.tsv",
        "curves.tsv",
        "summary.md",
        "balanced_accuracy.svg",
        "memorization.png",
    } <= set(files)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    results = pd.read_csv(tmp_path / "a" / "results.tsv", sep="\t")
    recalls = results[["recall_cn", "recall_mci", "recall_ad"]]
    np.testing.assert_allclose(recalls.mean(axis=1), results["balanced_accuracy"], atol=1e-9)
    assert (
        set(results["method"]) == {"ce", "elr", "sop", "ce untuned", "elr untuned", "sop untuned"}
        and (results["low"] <= results["balanced_accuracy"]).all()
    )
    wrong = pd.read_csv(tmp_path / "a" / "wrong_labels.tsv", sep="\t")
    assert set(wrong["split"]) == {"train", "val"} and (wrong["true"] != wrong["given"]).all()
    found = json.loads((tmp_path / "a" / "findings.json").read_text())
    assert len(found["chosen"]) == 3 and len(found["results"]) == len(results)
    (tmp_path / "tables").symlink_to(tmp_path / "a")
    (told,) = elsewhere.read([tmp_path / "tables"], tmp_path)
    first = results[(results["reading"] == "last") & (results["split"] == "test")].iloc[0]
    (test, _) = told["scores"]["groups"].values()
    assert test["cross-entropy (untuned)"][0] == {name: f"{100 * first[name]:.1f}" for name in ("balanced_accuracy", "low", "high")}  # fmt: skip
    assert list(test) == [f"{name} ({how})" for how in ("untuned", "tuned") for name in ("cross-entropy", "ELR", "SOP")]
    lost = sorted((tmp_path / "a" / "runs").glob("elr-40-seed1-*.npz"))[0]
    lost.write_bytes(lost.read_bytes()[:100])  # damaged: that one alone is made again
    made = []
    monkeypatch.setattr("elr_mri.lab.table_runs.fit", _counting(made))
    tables(lab, tmp_path / "a", **quiet)
    assert made == [1]
    assert (tmp_path / "a" / "results.tsv").read_bytes() == (tmp_path / "b" / "results.tsv").read_bytes()


def _counting(made: list):
    def counted(*args, **kwargs):
        made.append(kwargs["seed"])
        return fit(*args, **kwargs)

    return counted


def test_another_config_is_another_run(tmp_path: Path, drawn: pd.DataFrame) -> None:
    made = data(settings(tmp_path, drawn), tmp_path)
    run = Run("ce", METHODS["ce"], FIT, 0.4, 0, 0, ("val",))
    outcome(run, made)
    outcome(run, data(made.settings.model_copy(update={"normalise": "none"}), tmp_path))
    outcome(run, data(made.settings, tmp_path, Noise(seed=1)))
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 3


def test_intervals_are_over_subjects_and_seeds_and_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    subjects = np.repeat(np.arange(30), 4).astype(str)
    sharp = [np.eye(3)[labels] + rng.normal(scale=s, size=(120, 3)) for s in (0.6, 0.7, 0.8)]
    points, draws = draw_accuracies(labels, sharp, subjects, draws=400, seed=0)
    np.testing.assert_allclose(points[0], weighted_balanced_accuracy(labels, sharp[0], np.ones((1, 120)))[0])
    assert draws.shape == (3, 400) and (draws.std(axis=1) > 0.02).all()
    np.testing.assert_allclose(seed_shares(3, draws=400, seed=0).sum(axis=0), 1)
    place = (0.4, "test", "last")
    scored = {
        ("a", *place): (points, draws),
        ("b", *place): (points, draws),
        ("c", *place): (points - 0.1, draws - 0.1),
    }
    scored |= {(f"{name} untuned", *place): (points, draws) for name in "abc"}
    told = differences(scored, ["a", "b", "c"], seed=0, level=0.95)
    told = told[told["reference"] == "a"].set_index("method")
    assert told.loc["b", ["difference", "low", "high"]].eq(0).all() and told.loc["b", "p"] == 1
    np.testing.assert_allclose(told.loc["c", ["difference", "low", "high"]].astype(float), -0.1)
    np.testing.assert_allclose(told.loc["c", ["p", "p_holm"]].astype(float), [2 / 401, 4 * 2 / 401])


def test_holm_is_the_step_down_of_the_textbook() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"train": "a.tsv"}, "train, val and test"),
        ({"path": "a", "train": "b", "val": "c", "test": "d"}, "either path"),
        ({"scans": "a"}, "go with path"),
        ({"grids": {"ce": [{"wait": 1}]}}, "wait"),
        ({"seeds": [0, 0]}, "each value once"),
        ({"methods": ["ce", "ce"]}, "each value once"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(keys: dict, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        parse(Lab, {"tables": keys}, where="study.yaml")


@pytest.mark.slow
def test_elr_keeps_a_network_from_memorizing_wrong_labels_on_the_synthetic_table(tmp_path: Path) -> None:
    """Last epoch, 40 % wrong, settings by noisy validation, a table of another seed than the default's: at least 5 points above plain cross-entropy,
    and alike over seeds."""
    path = roi_tables(RoiPhantom(seed=2), tmp_path / "phantom")
    own = Tables(path=str(path), methods=("ce", "elr"), shares=(0.4,), seeds=(0, 1, 2), trial_seeds=1)
    tables(Lab(tables=own), tmp_path / "out", tell=lambda line: None)
    told = pd.read_csv(tmp_path / "out" / "differences.tsv", sep="\t")
    told = told[(told["method"] == "elr") & (told["reference"] == "ce untuned") & (told["reading"] == "last")]
    assert (told.set_index("split")["difference"] >= 0.05).all(), told
    results = pd.read_csv(tmp_path / "out" / "results.tsv", sep="\t")
    assert (results.loc[results["method"] == "elr", "seed_deviation"] < 0.05).all()
