"""doctor: what is there, what is missing and where to get it, before anything runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small_downloads as builders
import yaml

from elr_mri import config, provenance
from elr_mri.doctor import machine, needs
from elr_mri.doctor.page import examine
from elr_mri.errors import BadInput
from elr_mri.scans.adni_columns import COLUMNS
from elr_mri.scans.download import matched, read_table
from elr_mri.stages import MEMORY_MB, MINUTES, MINUTES_PER_SCAN, VERSIONS

ROOT = Path(__file__).parents[1]

HERE = machine.Machine(
    python="3.11.7",
    elr_mri="0.1.0",
    packages=(machine.Package("numpy", ("base",), "2.3.5", "2.3.5"),),
    cores=8,
    memory=32 * 10**9,
    disk_free=10**13,
    snakemake=True,
    conda=True,
    torch={
        "torch": "2.13.0",
        "device": "cpu",
        "usable": True,
        "precision": "float32",
        "gpus": [],
        "parameters": {},
        "faults": {},
    },
    torch_fault="",
)


@pytest.fixture
def adni(tmp_path):
    """Two subjects with an image and a row each, all tables that ADNI offers."""
    download = builders.Adni(tmp_path / "adni")
    for rid in (2, 3):
        download.visit(rid, "bl", "2006-01-10", "CN")
        download.image(rid, "2006-01-12", 100 + rid)
        download.dxsum.append(
            {"RID": rid, "PHASE": "ADNI1", "VISCODE2": "bl", "EXAMDATE": "2006-01-10", "DIAGNOSIS": 1}
        )
    builders.write_csv(
        download.root / "mine_7_01_2026.csv",
        [
            {
                "Image Data ID": f"I{100 + rid}",
                "Subject": f"011_S_{rid:04d}",
                "Acq Date": "1/12/2006",
                "Description": "MPR",
            }
            for rid in (2, 3)
        ],
    )
    return download


@pytest.fixture
def nacc(tmp_path):
    """Two subjects with a zip and a row each."""
    download = builders.Nacc(tmp_path / "nacc")
    for number in (11, 12):
        download.visit(number, "2010-05-05", 1)
        download.session(number, "2010-05-09", f"mri{number}.zip")
        download.archive(f"mri{number}ni.zip", {"MPRAGE": b"x" * 10})
    return download


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """The page of cohorts (format, path) on a machine that lacks nothing, its white space folded, and what is missing."""

    def go(*cohorts, here=HERE, width=110, **sections):
        monkeypatch.setattr(machine, "inspect", lambda results, train, ablations: here)
        listed = [{"name": f.upper(), "format": f, "path": str(path)} for f, path in cohorts]
        study = config.parse(
            config.Study, {"cohorts": listed, "results": str(tmp_path / "results"), **sections}, where="test"
        )
        page, missing = examine(study, title="study.yaml", width=width)
        return " ".join(page.split()), [m.what for m in missing]

    return go


def test_a_whole_adni_download_is_ready_and_every_column_is_told_as_the_file_spells_it(adni, ask):
    adni.merge = [
        {**{k: v for k, v in row.items() if k not in ("AGE", "PTID")}, "Age": 70, "ptid": row["PTID"]}
        for row in adni.merge
    ]
    page, missing = ask(("adni", adni.write()))
    assert missing == []
    assert "ready: a run can start" in page and "not ready" not in page
    for told in (
        "ADNIMERGE_23Dec2025.csv",
        "age <- Age",
        "ptid <- ptid",
        "baseline <- EXAMDATE_bl",
        "code <- VISCODE2",
        "mine_7_01_2026.csv",
    ):
        assert told in page
    assert "2 subjects with T1 images, 2 in the clinical tables, 2 in both (2 images)" in page
    assert "2 NIfTI, 3 tables" in page


def test_columns_that_are_not_there_are_told_with_what_is_lost(adni, ask):
    for row in adni.merge:
        del row["FLDSTRENG"], row["AGE"]
    page, missing = ask(("adni", adni.write()))
    assert missing == []
    assert "- without FLDSTRENG (field strength unknown" in page
    assert "look without AGE (no age at the scan" in page


def test_a_misnamed_column_without_which_adnimerge_is_of_no_use(adni, ask):
    for row in adni.merge:
        row["EXAM_DATE"] = row.pop("EXAMDATE")
    page, missing = ask(("adni", adni.write()))
    assert missing == ["ADNI: ADNIMERGE_23Dec2025.csv has no column EXAMDATE"]
    assert "Study Info > Data & Database" in page and page.endswith("to look at") and "not ready: 1 missing" in page


def test_dxsum_without_any_of_its_codings(adni, ask):
    adni.merge = []
    for row in adni.dxsum:
        row["DIAG"] = row.pop("DIAGNOSIS")
    _, missing = ask(("adni", adni.write()))
    assert missing == ["ADNI: DXSUM_PDXCONV_ADNIALL.csv has no column DXCURREN or DXCHANGE or DIAGNOSIS"]


def test_no_diagnosis_anywhere(adni, ask):
    adni.dxsum = []
    for row in adni.merge:
        del row["DX"]
    _, missing = ask(("adni", adni.write()))
    assert missing == ["ADNI: diagnoses: ADNIMERGE_23Dec2025.csv has no column DX, and there is no DXSUM"]


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_or_absent_adni_folder_names_all_that_belongs_into_it(tmp_path, ask, there):
    folder = tmp_path / "ADNI"
    if there:
        folder.mkdir()
    page, missing = ask(("adni", folder))
    wanted = ["ADNI: a clinical table, ADNIMERGE or DXSUM", "ADNI: T1 images"]
    assert missing == ([] if there else [f"ADNI: the folder {folder}"]) + wanted
    for where in (
        "Advanced Image Search",
        "Study Info > Data & Database",
        "Assessments > Diagnosis",
        "search for DELMRSCANS",
    ):
        assert where in page


def test_images_that_will_be_lost_and_tables_that_are_old(adni, ask):
    adni.image(99, "2026-03-01", 7)
    adni.image(99, "2026-03-02", 8, description="Axial_T2")
    (adni.root / "mine_7_01_2026.csv").unlink()
    (adni.root / "ADNIMERGE.xlsx").write_bytes(b"")
    builders.write_csv(adni.root / "old" / "ADNIMERGE_01Jan2020.csv", adni.merge)
    page, missing = ask(("adni", adni.write()))
    assert missing == []
    assert "1 T1 images of 1 subjects without clinical rows (011_S_0099)" in page
    assert "4 images, 3 of them T1 (others: 1 not-t1)" in page
    assert (
        "3 subjects with T1 images, 2 in the clinical tables, 2 in both (2 images)" in page
        and "about 2 (visits" in page
    )
    assert "2 releases of ADNIMERGE: ADNIMERGE_23Dec2025.csv goes before ADNIMERGE_01Jan2020.csv" in page
    assert "ADNIMERGE_23Dec2025.csv is older than the newest scan (2026-03-01)" in page
    assert "tables of different days, 01Jan2020 to 23Dec2025" in page
    assert "look image list not found (dates come from folder names" in page
    assert "not read ADNIMERGE.xlsx" in page


def test_images_without_a_date_and_without_a_list(adni, ask):
    (adni.root / "mine_7_01_2026.csv").unlink()
    flat = adni.root / "flat" / "ADNI_011_S_0002_MR_MPR__GradWarp__N3__Scaled_Br_2007_S1_I55.nii"
    flat.parent.mkdir()
    flat.write_bytes(b"")
    page, _ = ask(("adni", adni.write()))
    assert "1 T1 images have no date in their path and no image list" in page


def test_a_whole_nacc_download_is_ready(nacc, ask):
    page, missing = ask(("nacc", nacc.write()))
    assert missing == []
    assert "2 subjects with T1 images, 2 in the UDS, 2 in both (2 images)" in page
    assert "investigator_nacc71.csv: naccid <- NACCID" in page and "archive" not in page
    assert "2 tables, 2 zips" in page


def test_nacc_without_the_uds(nacc, ask):
    (nacc.write() / "investigator_nacc71.csv").unlink()
    page, missing = ask(("nacc", nacc.root))
    assert missing == ["NACC: the table UDS"]
    assert "MISSING UDS not found" in page and "naccdata.org > Requesting data" in page


def test_nacc_with_a_misnamed_column(nacc, ask):
    for row in nacc.uds:
        row["UDSD"] = row.pop("NACCUDSD")
    _, missing = ask(("nacc", nacc.write()))
    assert missing == ["NACC: investigator_nacc71.csv has no column NACCUDSD"]


def test_an_empty_nacc_folder(tmp_path, ask):
    (tmp_path / "NACC").mkdir()
    _, missing = ask(("nacc", tmp_path / "NACC"))
    assert missing == ["NACC: the table UDS", "NACC: the table MRI", "NACC: T1 images"]


def test_nacc_images_that_will_be_lost_and_mixed_freezes(nacc, ask):
    nacc.session(13, "2011-01-01", "mri13.zip")
    nacc.archive("mri13ni.zip", {"MPRAGE": b"x"})
    nacc.archive("mri99.zip", {"MPRAGE": b"y"})
    nacc.write()
    (nacc.root / "investigator_nacc70.csv").write_text("naccid\n")
    (nacc.root / "investigator_mri_nacc71.csv").rename(nacc.root / "investigator_mri_nacc74.csv")
    page, missing = ask(("nacc", nacc.root))
    assert missing == []
    assert "1 subjects with T1 images but without a UDS visit (NACC000013)" in page
    assert "1 T1 images without a row in the MRI table (mri99.zip)" in page
    assert "the UDS is of freeze 71, the MRI table of 74" in page
    assert "2 tables UDS: investigator_nacc71.csv is read, investigator_nacc70.csv not" in page


def test_bids_and_plain_tables(tmp_path, ask):
    for name in ("sub-01", "sub-02"):
        image = tmp_path / "bids" / name / "ses-M000" / "anat" / f"{name}_ses-M000_T1w.nii.gz"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"")
    people = tmp_path / "bids" / "participants.tsv"
    people.write_text("participant_id\tAge\tGroup\nsub-01\t70\tCN\n")
    table = tmp_path / "scans.csv"
    table.write_text("image_path,subject_id,age_years,dx\nbids/sub-01/a.nii,1,70,CN\n" + str(image) + ",2,71,AD\n")
    page, missing = ask(("bids", people.parent), ("tsv", table))
    assert missing == []
    assert "participant <- participant_id" in page and "diagnosis <- Group" in page and "diagnosis <- dx" in page
    assert "1 participants without a row (sub-02)" in page
    assert "1 of 2 images there" in page and "1 images are not there (a.nii)" in page
    people.write_text("participant_id\tAge\nsub-01\t70\n")
    table.write_text("image_path,subject_id,age\n")
    _, missing = ask(("bids", people.parent), ("tsv", table))
    assert missing == [
        "BIDS: a column diagnosis or dx or group or label",
        "TSV: scans.csv has no column DIAGNOSIS or DX or GROUP or LABEL",
    ]


def test_the_phantom_makes_its_own_downloads(tmp_path, ask):
    results = tmp_path / "results"
    cohort = ("adni", results / "phantom" / "ADNI")
    page, missing = ask(cohort, phantom={"n_subjects": 10, "visits_per_subject": 3})
    assert missing == [] and "not there yet: the run's first step writes it" in page and "about 20 (" in page
    builders.Adni(cohort[1]).image(2, "2006-01-12", 5)
    provenance.write_json(results / "phantom" / "study.json", {})
    made = config.Phantom(n_subjects=10, visits_per_subject=3)
    provenance.record(
        results / "phantom" / "study.json", step="phantom", version=VERSIONS["phantom"], inputs={}, settings=made
    )
    page, missing = ask(cohort, phantom={"n_subjects": 10, "visits_per_subject": 3})
    assert "and there already" in page and missing == ["ADNI: a clinical table, ADNIMERGE or DXSUM"]
    page, _ = ask(cohort, phantom={"n_subjects": 11, "visits_per_subject": 3})
    assert "not there yet" in page


def test_a_phantom_study_does_not_excuse_a_real_folder(tmp_path, ask):
    _, missing = ask(("nacc", tmp_path / "real"), phantom={})
    assert f"NACC: the folder {tmp_path / 'real'}" in missing


def test_the_disk_estimate_is_what_the_default_study_took():
    """Measured: 223 scans of 91 × 109 × 91 voxels at 3 mm took 1,127,464 KiB under imaging/; single files in bytes."""
    study = config.study(str(ROOT / "config" / "config.yaml"))
    wanted = needs.disk(study, n_scans=223, n_phantoms=0, native_voxels=91 * 109 * 91, parameters={})
    imaging = sum(n.total for n in wanted if n.what != "tables and report")
    assert imaging / 1024 == pytest.approx(1_127_464, rel=0.07)
    each = {n.what: n.each for n in wanted}
    assert each["converted scan"] == pytest.approx(1_553_020, rel=0.07)
    assert each["registered scan"] == pytest.approx(331_095, rel=0.07)
    assert each["warp and inverse"] == pytest.approx(1_261_470 + 1_255_110, rel=0.07)


def test_disk_grows_with_the_grid_and_with_what_is_written(ask):
    study = config.study(str(ROOT / "config" / "adni_nacc.yaml"))

    def of(what, **register):
        changed = study.model_copy(update={"register": study.register.model_copy(update=register)})
        wanted = needs.disk(changed, n_scans=10, n_phantoms=0, native_voxels=10**7, parameters={"wide": 10**6})
        return next(n for n in wanted if n.what.startswith(what)).total

    assert of("cache") == 10 * 121 * 145 * 121
    assert of("registered", write_warped=True) == 3 * of("registered")
    assert of("registered", spacing_mm=3.0) < of("registered") / 7
    assert of("model") == 3 * 4 * (5 * 10**6 + 3 * 2 * 121 * 145 * 121)  # three seeds; AdamW keeps two slots a weight


def test_a_full_disk_is_missing_space(adni, ask):
    _, missing = ask(("adni", adni.write()), here=machine.Machine(**{**vars(HERE), "disk_free": 10**6}))
    assert len(missing) == 1 and missing[0].startswith("disk space: ")


def test_the_size_of_a_scan_is_read_from_its_header(tmp_path):
    import nibabel as nib

    image = nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.eye(4))
    for name in ("a.nii", "a.nii.gz"):
        nib.save(image, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(tmp_path / "a.nii.gz", "x/a.nii.gz")
    (tmp_path / "broken.nii").write_bytes(b"no image")
    for path in (tmp_path / "a.nii", tmp_path / "a.nii.gz", f"{tmp_path}/s.zip!x/a.nii.gz"):
        assert needs.native_voxels([str(path)]) == 210
    assert needs.native_voxels([str(tmp_path / "broken.nii")]) is None


def test_software_that_is_not_there_or_another_version(adni, ask):
    adni.write()
    scipy = machine.Package("scipy", ("imaging",), "1.15.3", None)
    torch = machine.Package("torch", ("learning",), "2.13.0", None)
    numpy = machine.Package("numpy", ("base",), "2.3.5", "1.26.0")
    facts = {
        **vars(HERE),
        "packages": (numpy, scipy, torch),
        "torch": None,
        "torch_fault": "not installed",
        "snakemake": False,
    }
    page, missing = ask(("adni", adni.root), here=machine.Machine(**{**facts, "conda": False}))
    assert missing == ["the packages scipy", "snakemake"]  # no model, no torch
    assert "numpy 1.26.0 installed, 2.3.5 pinned (for base)" in page and "torch not installed" in page
    models = {"models": {"wide": {"network": "wide"}}}
    explain = {"model": "wide"}
    page, missing = ask(
        ("adni", adni.root), here=machine.Machine(**{**facts, "conda": False}), train=models, explain=explain
    )
    assert missing == ["the packages scipy, torch", "snakemake"] and "pip install scipy==1.15.3 torch==2.13.0" in page
    _, missing = ask(
        ("adni", adni.root), here=machine.Machine(**{**facts, "conda": True}), train=models, explain=explain
    )
    assert missing == ["snakemake"]


def test_the_gpu_with_its_memory_and_one_that_is_asked_for_in_vain(adni, ask):
    gpu = {
        **HERE.torch,
        "device": "cuda",
        "precision": "bfloat16",
        "gpus": [{"name": "NVIDIA H100", "memory": 85 * 2**30}],
    }
    page, missing = ask(("adni", adni.write()), here=machine.Machine(**{**vars(HERE), "torch": gpu}))
    assert "trains on cuda in bfloat16" in page and "NVIDIA H100 (85.0 GiB)" in page and missing == []
    none = {**HERE.torch, "device": "cuda", "usable": False}
    _, missing = ask(
        ("adni", adni.root), here=machine.Machine(**{**vars(HERE), "torch": none}), train={"device": "cuda"}
    )
    assert missing == ["the GPU of train.device cuda"]


def test_an_ablation_that_cannot_be_trained_is_told_and_stops_no_run(adni, ask):
    told = {**HERE.torch, "faults": {"depth-3": "expected a depth of 4 or more"}}
    page, missing = ask(("adni", adni.write()), here=machine.Machine(**{**vars(HERE), "torch": told}))
    assert "depth-3 cannot be trained: expected a depth of 4 or more" in " ".join(page.split()) and missing == []


def test_every_pin_is_compared_whether_the_package_is_installed_or_a_checkout(monkeypatch):
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"base": told["dependencies"], **told["optional-dependencies"]}
    pins = {line for name in machine.GROUPS for line in groups[name]}
    assert {f"{p.name}=={p.pin}" for p in machine.pinned()} == pins

    def absent(name):
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "requires", absent)
    assert {f"{p.name}=={p.pin}" for p in machine.pinned()} == pins


def test_the_page_fits_any_width_and_obeys_no_file_name(adni, ask, monkeypatch):
    adni.merge[0]["\x1b[31mred[/bold]"] = 1
    adni.write(merge="\x1b[2J_ADNIMERGE_23Dec2025.csv")
    monkeypatch.setattr(machine, "inspect", lambda results, train, ablations: HERE)
    study = config.parse(
        config.Study, {"cohorts": [{"name": "A", "format": "adni", "path": str(adni.root)}]}, where="test"
    )
    for width in (60, 110):
        page, _ = examine(study, title="x" * 300, width=width)
        assert max(map(len, page.splitlines())) <= width
        assert "\x1b" not in page and "?[2J_ADNIMERGE" in page


def test_nothing_is_written_and_a_big_tree_takes_little_time(adni, ask):
    for uid in range(1000, 2000):
        adni.image(2 + uid % 2, f"20{10 + uid % 10}-01-{1 + uid % 28:02d}", uid)
    adni.write()
    before = {path: path.stat().st_mtime_ns for path in adni.root.parent.rglob("*")}
    start = time.perf_counter()
    ask(("adni", adni.root))
    assert time.perf_counter() - start < 4  # 5,000 scans in 20 s
    assert {path: path.stat().st_mtime_ns for path in adni.root.parent.rglob("*")} == before


def test_matched_tells_what_read_table_reads(tmp_path):
    table = builders.write_csv(tmp_path / "t.csv", [{"viscode": "v1", "RID ": 1, "VISCODE2": "m06", "Rid": 2}])
    told = matched(table, COLUMNS["DXSUM"])
    assert told["code"] == "VISCODE2" and told["raw"] == "viscode" and told["rid"] == "RID" and told["date"] is None
    row = read_table(table, COLUMNS["DXSUM"]).iloc[0]
    assert (row["code"], row["raw"], row["rid"]) == ("m06", "v1", "1")


def test_the_memory_that_rules_reserve_stands_in_one_place():
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        named = re.findall(
            r"^(?:rule|checkpoint) (\w+):(?:(?!^(?:use )?rule ).)*?needs\(\"(\w+)\"", text, flags=re.S | re.M
        )
        assert len(named) == text.count("**needs(") and "mem_mb=" not in text and "runtime=" not in text
        for rule, told in named:
            assert told == rule and rule in MINUTES and (rule in MEMORY_MB or rule in MINUTES_PER_SCAN)


def run(folder: Path, study: dict, code: str = "pass") -> subprocess.CompletedProcess:
    """doctor as a user runs it; `code` is run before."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    start = (
        f"import sys; sys.argv[1:] = ['doctor', '--config', 'study.yaml']; {code}; from elr_mri.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", start],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_torch_there_is_still_a_page(tmp_path, adni):
    study = {"cohorts": [{"name": "ADNI", "format": "adni", "path": str(adni.write())}]}
    block = "sys.modules['torch'] = sys.modules['monai'] = None"
    done = run(tmp_path, study, block)
    assert re.search(r"look +torch +not installed", done.stdout), done
    assert "ADNIMERGE_23Dec2025.csv" in done.stdout and "Traceback" not in done.stderr


def test_the_command_line_ends_with_one_line_and_status_2(tmp_path, adni):
    (adni.write() / "tables" / "ADNIMERGE_23Dec2025.csv").unlink()
    (adni.root / "tables" / "DXSUM_PDXCONV_ADNIALL.csv").unlink()
    done = run(tmp_path, {"cohorts": [{"name": "ADNI", "format": "adni", "path": str(adni.root)}]})
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and "ADNI: a clinical table, ADNIMERGE or DXSUM" in done.stderr
    assert "not ready: 1 missing" in done.stdout.splitlines()[-1]
    done = run(tmp_path, {"cohort": []})
    assert done.returncode == 2 and done.stdout == "" and "'cohorts'" in done.stderr


def test_torch_is_asked_in_another_process_and_tells_the_size_of_the_networks():
    train = config.Train(models={"age": {"network": "wide", "width": 1, "age": "sinusoid"}})
    ablations = config.Train(models={"strided": config.Model(network="wide", width=1, first_stride=2), **train.models})
    told, fault = machine.torch_told(train, ablations)
    assert list(told["faults"]) == ["strided"] and "a crop of at least 141 voxels, got 96" in told["faults"]["strided"]
    assert fault == "" and told["parameters"] == {"age": 9_878_571}  # shared with tests/learning/test_networks.py
    assert told["device"] in ("cpu", "cuda") and json.dumps(told)
    told, fault = machine.torch_told(config.Train(device="none-such"), config.Train())
    assert told is None and "train.device" in fault


def test_a_config_fault_is_told_as_everywhere(tmp_path):
    from elr_mri.doctor.page import doctor

    with pytest.raises(BadInput, match="expected a readable config file"):
        doctor(str(tmp_path / "none.yaml"))


def test_an_optional_or_older_table_that_would_stop_ingest_is_told(adni, ask):
    adni.write()
    builders.write_csv(adni.root / "CDR.csv", [{"VISCODE": "bl", "CDGLOBAL": 0}])
    _, missing = ask(("adni", adni.root))
    assert missing == ["ADNI: CDR.csv has no column RID or PTID or SUBJECT_ID"]
    (adni.root / "CDR.csv").unlink()
    builders.write_csv(adni.root / "ADNIMERGE.csv", [{"RID": 2, "VISCODE": "bl"}])
    _, missing = ask(("adni", adni.root))
    assert missing == ["ADNI: ADNIMERGE.csv has no column EXAMDATE"]


def test_a_dxsum_of_no_use_stops_nothing_beside_adnimerge(adni, ask):
    for row in adni.dxsum:
        del row["DIAGNOSIS"]
    page, missing = ask(("adni", adni.write()))
    assert (
        missing == [] and "look DXSUM DXSUM_PDXCONV_ADNIALL.csv has no column DXCURREN or DXCHANGE or DIAGNOSIS" in page
    )
