"""What cannot matter does not: order, case, delimiter and spelling of ADNI's tables leave the scan table as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans.ingest import ingest

SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DX = {"CN": 1, "MCI": 2, "Dementia": 3, "": ""}
MISSING = st.sampled_from(["", "NA", "-1", "-4", " ", "NaN"])
EXTRA = {"ABETA": ">1700", "TAU": "<80", "PTAU": "-4", "update_stamp": "2023-07-05 04:20:46.0"}


def tables_of(root: Path, out: Path, **options) -> dict[str, pd.DataFrame]:
    ingest([Cohort(name="ADNI", format="adni", path=str(root))], Ingest(**options), out)
    return {name: pd.read_csv(out / f"{name}.tsv", sep="\t") for name in ("scans", "exclusions", "visits", "notes")}


def clean(adni, write) -> None:
    """Five subjects with three visits and a scan at each, a list of the images, and DXSUM, all in agreement."""
    adni.merge.clear(), adni.dxsum.clear()
    words = list(DX)
    rows = []
    for rid in range(1, 6):
        for k, (code, day) in enumerate((("bl", "2006-01-10"), ("m12", "2007-01-12"), ("m24", "2008-01-08"))):
            dx = words[(rid + k) % 4]
            adni.visit(rid, code, day, dx, age=60 + rid, PTID=f"011_S_{rid:04d}")
            adni.dxsum.append(
                {
                    "RID": rid,
                    "PTID": f"011_S_{rid:04d}",
                    "PHASE": "ADNI1",
                    "VISCODE": code,
                    "VISCODE2": code,
                    "EXAMDATE": day,
                    "DIAGNOSIS": DX[dx],
                }
            )
            uid = 10 * rid + k
            adni.image(rid, f"{day[:8]}20", uid)
            rows.append(
                {
                    "Image Data ID": f"I{uid}",
                    "Subject": f"011_S_{rid:04d}",
                    "Group": "AD",
                    "Sex": "F",
                    "Age": 61,
                    "Acq Date": f"1/20/{day[:4]}",
                }
            )
    write(adni.root / "tables" / "list.csv", rows)  # fmt: skip


def disturbed(data, rows: list[dict], label: str) -> list[dict]:
    """The rows in another order, columns in another order and case, cells padded, columns that nobody reads added."""
    names = data.draw(st.permutations([*rows[0], *EXTRA]), label=label)
    case = {name: data.draw(st.sampled_from([str.lower, str.upper, str.title, str]))(name) for name in names}
    pad = data.draw(st.sampled_from(["", " ", "  "]))
    whole = [row | EXTRA for row in data.draw(st.permutations(rows))]
    return [{case[name]: f"{row[name]}{pad}" for name in names} for row in whole]


@SETTINGS
@given(data=st.data())
def test_shuffled_tables_give_the_same_scan_table(adni, table_writer, tmp_path, data):
    clean(adni, table_writer)
    expected = tables_of(adni.write(), tmp_path / "a")
    for name, rows in (("ADNIMERGE_23Dec2025.csv", adni.merge), ("DXSUM_PDXCONV_ADNIALL.csv", adni.dxsum)):
        table_writer(adni.root / "tables" / name, disturbed(data, rows, name), data.draw(st.sampled_from(",;\t")))
    again = tables_of(adni.root, tmp_path / "b")
    for name, table in expected.items():
        pd.testing.assert_frame_equal(again[name], table)


@SETTINGS
@given(data=st.data())
def test_a_fact_that_one_table_lacks_comes_from_the_other(adni, table_writer, tmp_path, data):
    """A diagnosis stands in ADNIMERGE, in DXSUM (in any of its codings), or in both: the scans are the same."""
    clean(adni, table_writer)
    expected = tables_of(adni.write(), tmp_path / "a")["scans"]
    for merge, told in zip(adni.merge, adni.dxsum, strict=True):
        code = told.pop("DIAGNOSIS")
        told[data.draw(st.sampled_from(["DIAGNOSIS", "DXCHANGE", "DXCURREN"]))] = code
        where = data.draw(st.sampled_from(["both", "merge", "sum"]))
        if where == "sum":
            merge["DX"] = data.draw(st.sampled_from(["", "NA", " "]))
        if where == "merge":
            told |= {name: data.draw(MISSING) for name in ("DIAGNOSIS", "DXCHANGE", "DXCURREN")}
        if data.draw(st.booleans()):
            merge["DX"] = {"CN": "NL", "MCI": "NL to MCI", "Dementia": "MCI to Dementia"}.get(merge["DX"], merge["DX"])
    pd.testing.assert_frame_equal(tables_of(adni.write(), tmp_path / "b")["scans"], expected)


@SETTINGS
@given(data=st.data())
def test_whatever_is_missing_every_image_is_accounted_for(adni, table_writer, tmp_path, data):
    """Any cells blank or coded missing, any rows gone: found = kept + excluded, and what is kept is true."""
    clean(adni, table_writer)
    truth = {
        (r["RID"], r["EXAMDATE"][:4]): {"CN": "CN", "MCI": "MCI", "Dementia": "AD"}.get(r["DX"]) for r in adni.merge
    }
    for rows in (adni.merge, adni.dxsum):
        for row in rows:
            for name in data.draw(st.lists(st.sampled_from([n for n in row if n != "RID"]), max_size=3)):
                row[name] = data.draw(MISSING)
        del rows[data.draw(st.integers(1, len(rows))) :]
    if data.draw(st.booleans()):
        adni.image(data.draw(st.sampled_from([1, 9])), "2006-01-21", 99, description="MPRAGE_Mask")
    found = len(list(adni.root.rglob("*.nii")))
    out = tmp_path / "out"
    try:
        tables = tables_of(adni.write(), out, carry_forward_days=data.draw(st.sampled_from([0, 0, 400])))
    except BadInput as problem:
        assert "all excluded" in str(problem) and f"{found} images" in str(problem)
        return
    finally:
        for extra in adni.root.rglob("*_I99.nii"):
            extra.unlink()
    assert len(tables["scans"]) + len(tables["exclusions"]) == found
    carried = set(zip(tables["notes"]["subject_id"], tables["notes"]["months"], strict=True))
    for row in tables["scans"].itertuples():
        rid = int(row.subject_id[-4:])
        year = row.image_path.split("/")[-3][:4]
        told = (row.subject_id, row.months) in carried
        assert row.diagnosis == truth[rid, year] or told
        assert row.age_years == pytest.approx(60 + rid + int(year) - 2006, abs=0.1) or row.age_years == 61


def test_the_ages_of_a_subject_grow_with_its_scans(adni, table_writer, tmp_path):
    clean(adni, table_writer)
    scans = tables_of(adni.write(), tmp_path / "a")["scans"]
    assert all(np.diff(ages["age_years"]).min(initial=1) > 0.9 for _, ages in scans.groupby("subject_id"))
