"""Long text from strangers is read in a time that grows with its length, not with its square or cube."""

from __future__ import annotations

import time

import pytest

from elr_mri.scans.adni_lists import _read_sidecars
from elr_mri.scans.imagepath import space_of
from elr_mri.scans.nacc import _dated
from elr_mri.scans.scan_tables import read_series

N = 200_000
ELEMENTS = ("<dateAcquired>", "<subjectSex>", "<subjectAge>", "<subjectIdentifier>") + tuple(
    f'<protocol term="{term}">' for term in ("Field Strength", "Manufacturer")
)


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("repeated", [False, True])
def test_a_sidecar_of_spaces(element, repeated, tmp_path):
    path = tmp_path / "ADNI_011_S_0002_MR_MPR_S13408_I45108.xml"
    path.write_text((element + " ") * (N // len(element)) if repeated else element + " " * N)
    assert seconds(lambda: _read_sidecars([path], known=set())) < 1


def test_a_maker_is_told_without_the_spaces_around_it(tmp_path):
    for told, expected in (("\n  GE MEDICAL  SYSTEMS\n ", "GE MEDICAL  SYSTEMS"), ("  ", None)):
        path = tmp_path / "x_I45108.xml"
        path.write_text(f'<protocol term="Manufacturer">{told}</protocol>')
        (maker,) = _read_sidecars([path], known=set())[0]["manufacturer"]
        assert maker == expected or (expected is None and maker != maker)


@pytest.mark.parametrize("text", ["1" * N + "x", "1." + "0" * N + "x", "0." * (N // 2) + "x"])
def test_an_image_number_that_is_none(text, table_writer, tmp_path):
    path = table_writer(tmp_path / "a.csv", [{"NACCID": "NACC000001", "STUDYDATE": "2020-01-01", "LONIIMAGE": text}])
    assert seconds(lambda: read_series(path)) < 1


def test_an_image_number_is_the_last_in_its_cell(table_writer, tmp_path):
    cells = {"I123456": "123456", "123456.0": "123456", "12.34": "34", "no 5.": "5"}
    rows = [{"NACCID": "NACC000001", "STUDYDATE": "2020-01-01", "LONIIMAGE": cell} for cell in cells]
    assert read_series(table_writer(tmp_path / "a.csv", rows))["image"].tolist() == list(cells.values())


def test_names_of_many_ids_and_many_spaces():
    assert seconds(lambda: _dated("nacc123456" * (N // 10))) < 1
    assert seconds(lambda: space_of("_space-a_" * (N // 9) + "/x.nii")) < 1


def test_the_person_and_the_day_of_a_name():
    assert _dated("1234_nacc012345_x_20190101.2") == ("NACC012345", "20190101")
    assert _dated("20190101_NACC012345_30190101") is None and _dated("NACC12345_20190101") is None
