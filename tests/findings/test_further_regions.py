"""In a workflow `volumes-all` sees every region of the study's FreeSurfer tables: from `measure` through `review` and `pack` to `baseline`."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from elr_mri import config
from elr_mri.findings import candidates
from elr_mri.findings.baseline import baseline, baseline_of_tables
from elr_mri.imaging.cache import pack
from elr_mri.imaging.measure import measure
from elr_mri.imaging.review import review
from elr_mri.phantom.roi_tables import draw_table
from elr_mri.scans.predictions import PREDICTIONS, Z_COLUMNS
from elr_mri.scans.table import SCANS, SPLIT


@pytest.fixture(autouse=True)
def _few_trials(monkeypatch):
    monkeypatch.setattr(candidates, "STRENGTHS", (1e-2, 1e-1))


def few_scans(settings):
    """A FreeSurfer-shaped table with two visits of a subject at most."""
    return draw_table(settings).groupby("participant_id").head(2).reset_index(drop=True)


def write_steps_before(root, table):
    """scans.tsv, splits.tsv and what `convert` and `register` leave of every scan of a FreeSurfer-shaped table."""
    who = table.assign(scan_id=table["participant_id"] + "_" + table["session_id"], subject_id=table["participant_id"])
    months = who["session_id"].str.removeprefix("ses-M").astype(int)
    scans = who.assign(months=months, age_years=who["age"], image_path=who["scan_id"] + ".nii.gz")
    SCANS.write(scans.reindex(columns=[c.name for c in SCANS.columns]), root / "scans.tsv")
    splits = who.drop_duplicates("subject_id").assign(fold=np.nan)
    SPLIT.write(splits[["cohort", "subject_id", "split", "fold"]], root / "splits.tsv")
    for scan_id in who["scan_id"]:
        convert, register = root / "convert" / scan_id, root / "register" / scan_id
        convert.mkdir(parents=True)
        register.mkdir(parents=True)
        (convert / f"{scan_id}_convert.json").write_text(json.dumps({"status": "pass", "reason": "", "sha256": "0"}))
        image = f"{scan_id}_space-T_T1w.nii.gz"
        told = {"status": "pass", "reason": "", "template": "T", "files": {"affine_image": image}}
        (register / f"{scan_id}_space-T_qc.json").write_text(json.dumps(told | {"numbers": {"mask_dice": 0.95}}))
        nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), register / image)
        for path in (convert / f"{scan_id}_T1w.nii.gz", register / image):
            path.with_name(f"{path.name}.json").write_text(json.dumps({"settings": {}}))


def through_the_steps(root, tables):
    """`measure`, `review` and `pack` with the source freesurfer."""
    steps = [root / name for name in ("convert", "register", "measure")]
    settings = config.Measure(source="freesurfer", path=str(tables))
    for batch in ("000", "001"):
        measure(root / "scans.tsv", root / "register", batch, 2, settings, root / "measure")
    review(root / "scans.tsv", *steps[:2], config.Review(), root / "review")
    pack(root / "scans.tsv", root / "review" / "review.tsv", *steps, config.Pack(), root / "pack")
    return root / "pack" / "roi_volumes.tsv"


def test_a_study_s_freesurfer_tables_reach_volumes_all_whole_and_the_talk_s_baseline_stays(tmp_path):
    drawn = few_scans(config.RoiPhantom(n_train=40, n_val=20, n_test=20, n_external=8))
    parcels = [name for name in drawn if name.endswith("_volume")]
    thick = {name.replace("_volume", "_thickness"): 2.5 * (drawn[name] / drawn[name].mean()) ** 0.3 for name in parcels}
    drawn = pd.concat([drawn, pd.DataFrame(thick).round(3)], axis=1)
    write_steps_before(tmp_path, drawn)
    (tmp_path / "tables").mkdir()
    who = ["participant_id", "session_id"]
    cortex = [name for name in drawn if name.startswith(("lh_", "rh_"))]
    drawn[[*who, *cortex]].to_csv(tmp_path / "tables" / "aparc.csv", index=False)
    aseg = drawn.drop(columns=[*cortex, "cohort", "split", "diagnosis", "age", "sex"])
    aseg.to_csv(tmp_path / "tables" / "aseg.csv", index=False)
    rois = through_the_steps(tmp_path, tmp_path / "tables")
    assert len(pd.read_csv(rois, sep="\t").columns) == len(drawn.columns) - 7 + len(["scan_id", "source", "note"]) + 2
    settings = config.Baseline(all_regions=config.AllRegions(models=("logistic",)))
    paths = {"scans_path": tmp_path / "scans.tsv", "splits_path": tmp_path / "splits.tsv"}
    found = PREDICTIONS.read(baseline(roi_path=rois, settings=settings, out_dir=tmp_path / "out", **paths))
    regions = json.loads((tmp_path / "out" / "volumes-all.json").read_text())["features"]["regions"]
    assert len(regions) == 105 + 68 and "left-amygdala" in regions and "rh_insula_thickness" in regions
    assert len(json.loads((tmp_path / "out" / "model.json").read_text())["features"]) == 4
    # the same as by hand from the same table, so nothing was lost or shuffled on the way
    drawn.to_csv(tmp_path / "all.tsv", sep="\t", index=False)
    by_hand = settings.model_copy(update={"tables": config.RoiTables(path=str(tmp_path / "all.tsv"))})
    again = PREDICTIONS.read(baseline_of_tables(settings=by_hand, out_dir=tmp_path / "by_hand"))
    for model, rows in found.groupby("model"):
        other = again[again["model"] == model].set_index("scan_id").loc[rows["scan_id"]]
        np.testing.assert_allclose(
            rows[list(Z_COLUMNS)], other[list(Z_COLUMNS)], atol=1e-6 if model == "volumes" else 1e-3
        )


def test_scans_without_a_row_have_no_regions_and_are_no_one_s(tmp_path, capsys):
    drawn = few_scans(config.RoiPhantom(n_train=30, n_val=20, n_test=1, n_external=1))
    write_steps_before(tmp_path, drawn)
    kept = drawn.drop(columns=["cohort", "split", "diagnosis", "age", "sex"]).drop(index=0)
    kept.to_csv(tmp_path / "table.csv", index=False)
    rois = through_the_steps(tmp_path, tmp_path / "table.csv")
    settings = config.Baseline(all_regions=config.AllRegions(models=("logistic",)))
    paths = {"scans_path": tmp_path / "scans.tsv", "splits_path": tmp_path / "splits.tsv"}
    found = PREDICTIONS.read(baseline(roi_path=rois, settings=settings, out_dir=tmp_path / "out", **paths))
    lost = f"{drawn['participant_id'][0]}_{drawn['session_id'][0]}"
    assert lost in set(pd.read_csv(rois, sep="\t")["scan_id"]) and lost not in set(found["scan_id"])
    assert f"1 scans have fewer than half of the 105 regions, as {lost}" in capsys.readouterr().out
