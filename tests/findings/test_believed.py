"""The section on saliency: figures with all three planes and a named colour bar, ratios, and checks that are shown as they came out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_study as study

from elr_mri.errors import BadInput
from elr_mri.findings import believed, brains, page, style
from elr_mri.findings.figures import Pictures, draw_saliency, read_anatomy, viewer_maps
from elr_mri.scans.saliency import CHECKS, LOBES, SHARES


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, brains.Anatomy]:
    """A study's folder of maps, and its anatomy."""
    root = tmp_path_factory.mktemp("believed")
    made = study.make(root, n_subjects=8)
    study.add_pictures(made)
    told = study.settings(made)
    return root / "explain" / "wide", read_anatomy(told.register.template, None, told.measure.labels)


def section(folder: Path | None, pictures: dict[str, str], *, people: bool = True) -> str:
    """The section alone."""
    told = believed.read(folder, people=people)
    context = {"believed": told, "pictures": pictures, "explained": "wide", "people": people}
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


def counted(folder: Path, **persons: int) -> None:
    """Say of how many persons the scans of a class, or all, are."""
    shares = SHARES.read(folder / "shares.tsv")
    for name, n in persons.items():
        shares.loc[shares["class"] == name, ["n_scans", "n_subjects"]] = n
    SHARES.write(shares, folder / "shares.tsv")


def test_a_class_of_few_persons_is_told_in_the_house_and_of_phantoms_alone(drawn, tmp_path: Path) -> None:
    folder, anatomy = tmp_path / "wide", drawn[1]
    shutil.copytree(drawn[0], folder)
    counted(folder, MCI=4, CN=5)
    drawing = {}
    for people in (True, False):
        pictures = Pictures(tmp_path / f"{people}", {})
        with style.drawing():
            draw_saliency(pictures, folder, anatomy, people=people)
        drawing[people] = pictures.stems["saliency"].with_name("saliency.svg").read_text()
    assert all(f"<!-- {name} -->" in drawing[True] for name in ("all", "CN", "MCI", "AD"))
    assert (
        all(f"<!-- {name} -->" in drawing[False] for name in ("all", "CN", "AD"))
        and "<!-- MCI -->" not in drawing[False]
    )
    assert "saliency, MCI" in viewer_maps(folder, people=True)
    assert set(viewer_maps(folder, people=False)) == {"saliency, all scans", "saliency, CN", "saliency, AD"}
    assert [row["class"] for row in believed.read(folder, people=False)["lobes"]] == ["all", "CN", "AD"]
    html = section(folder, {"saliency": "data:,"}, people=False)
    assert '<td class="left">MCI</td>' not in html and "Maps of MCI are of fewer than five persons" in html
    assert '<td class="left">MCI</td>' in section(folder, {"saliency": "data:,"})


@pytest.mark.parametrize("known", [True, False])
def test_maps_of_few_persons_or_of_nobody_knows_how_many_stay_in_the_house(drawn, tmp_path: Path, known: bool) -> None:
    folder, anatomy = tmp_path / "wide", drawn[1]
    shutil.copytree(drawn[0], folder)
    if known:
        counted(folder, all=4)
    else:
        (folder / "shares.tsv").unlink()
    pictures = Pictures(tmp_path, {})
    draw_saliency(pictures, folder, anatomy, people=False)
    assert not pictures.stems and "saliency, all scans" not in viewer_maps(folder, people=False)
    assert believed.may_tell(folder, people=False) <= {"CN", "MCI", "AD"}
    html = page.render("sections/saliency.html.j2", {"pictures": {}, "explained": "wide", "people": False})
    assert "shown in in-house copies alone" in html


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
