"""The section on saliency: figures with all three planes and a named colour bar, ratios, and checks that are shown as they came out."""

from pathlib import Path

import numpy as np
import pytest
import tiny_study as study

from elr_mri.errors import BadInput
from elr_mri.findings import believed, brains, page, style
from elr_mri.findings.figures import Pictures, draw_saliency, read_anatomy
from elr_mri.scans.saliency import CHECKS, LOBES


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, brains.Anatomy]:
    """A study's folder of maps, and its anatomy."""
    root = tmp_path_factory.mktemp("believed")
    made = study.make(root, n_subjects=8)
    study.add_pictures(made)
    told = study.settings(made)
    return root / "explain" / "wide", read_anatomy(told.register.template, None, told.measure.labels)


def section(folder: Path | None, pictures: dict[str, str]) -> str:
    """The section alone."""
    context = {"believed": believed.read(folder), "pictures": pictures, "explained": "wide", "people": True}
    return page.render("sections/saliency.html.j2", context)


def test_figures_show_three_planes_and_a_labelled_colour_bar(drawn) -> None:
    folder, anatomy = drawn
    maps = {"all": brains.Volume.read(folder / "aggregate.nii.gz")}
    for views in (brains.aggregate_views(anatomy), brains.example_views(anatomy)):
        assert {plane for plane, _ in views} == {"axial", "coronal", "sagittal"}
        with style.drawing():
            figure = brains.saliency(maps, anatomy, views)
        titles = " ".join(axes.get_title() for axes in figure.axes)
        assert all(plane in titles for plane in ("axial", "coronal", "sagittal"))
        assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel().startswith("saliency")] == [
            "saliency, × the brain's mean"
        ]


def test_every_figure_of_the_section_is_drawn(drawn, tmp_path: Path) -> None:
    folder, anatomy = drawn
    pictures = Pictures(tmp_path, {})
    with style.drawing():
        draw_saliency(pictures, folder, anatomy)
    assert set(pictures.stems) == {"saliency", "saliency_examples", "saliency_regions"}
    assert all(stem.with_name(f"{stem.name}.svg").is_file() for stem in pictures.stems.values())


def test_ratios_stand_in_the_table_beside_those_of_fresh_weights(tmp_path: Path) -> None:
    study.add_saliency_tables(tmp_path, ratio=4.25)
    told = believed.read(tmp_path)
    lobes = next(row for row in told["regions"] if row["name"] == LOBES)
    assert lobes["cells"] == [("4.25", "3.40 to 5.10")] * 2 + [("1.10", "0.88 to 1.32")] * 2
    assert told["models"] == ["the model", "fresh weights"] and lobes["volume"] == "0.80"
    assert [row["class"] for row in told["lobes"]] == ["all", "CN", "MCI", "AD"]
    html = section(tmp_path, {"saliency": "data:,"})
    assert "4.25" in html and "30 scans of 15 subjects" in html


def test_a_failing_check_is_shown_as_failing_in_plain_words(tmp_path: Path) -> None:
    study.add_saliency_tables(tmp_path, verdict="fail")
    html = section(tmp_path, {"saliency": "data:,"})
    assert "1 of the 2 checks below fail" in html
    assert "<b>fail</b>. The map depends on who was looked at: do not read single spots." in html
    assert "<b>not made</b>. Set explain.permuted to true" in html
    study.add_saliency_tables(tmp_path, verdict="pass")
    html = section(tmp_path, {"saliency": "data:,"})
    assert "<b>fail</b>" not in html and "All 2 checks that were made" in html


def test_maps_without_tables_are_shown_without_them(tmp_path: Path) -> None:
    assert believed.read(tmp_path) is None and believed.read(None) is None
    html = section(tmp_path, {"saliency": "data:,"})
    assert "Can the maps be believed" not in html and "Saliency of <b>wide</b>" in html


def test_a_number_that_is_none_is_a_dash(tmp_path: Path) -> None:
    study.add_saliency_tables(tmp_path)
    checks = CHECKS.read(tmp_path / "checks.tsv")
    checks.loc[0, "value"] = np.nan
    CHECKS.write(checks.assign(verdict="fail"), tmp_path / "checks.tsv")
    assert believed.read(tmp_path)["checks"][0]["value"] == "–"
    CHECKS_BAD = (tmp_path / "checks.tsv").read_text().replace("fail", "perhaps")
    (tmp_path / "checks.tsv").write_text(CHECKS_BAD)
    with pytest.raises(BadInput, match="one of pass, fail, not made"):
        believed.read(tmp_path)
