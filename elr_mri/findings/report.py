"""One self-contained page that a clinician-scientist can read, and every figure beside it.

The page opens with what was found and how sure that is, then answers questions in the order in which a reader asks
them: what was done, is the data sound, does it work, compared to what, how sure, why, for whom not, how to reproduce it. What was not given (no saliency, no registration folder …)
is named in its place, never left out in silence.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from elr_mri import config, pages, provenance
from elr_mri.findings import (
    ablations,
    accounting,
    baseline_told,
    believed,
    comparisons,
    consort,
    elsewhere,
    figures,
    for_whom,
    methods,
    methods_after,
    mislead,
    opening,
    page,
    privacy,
    published,
    reproduce,
    score_groups,
    style,
    trust,
    viewer,
    who,
    words,
)
from elr_mri.findings.evaluate import MAIN_METRICS
from elr_mri.findings.predicted import UNSEEN
from elr_mri.findings.tables import (
    ABLATIONS,
    COMPARISONS,
    CONFUSION,
    DIFFERENCES,
    LEFT_OUT,
    RESULTS,
    ROC,
    SUBJECTS,
)
from elr_mri.scans.schema import Schema
from elr_mri.scans.table import EXCLUSIONS, NOTES, SPLIT, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["report"]
CLASS_METRICS = ("auc_cn", "auc_mci", "auc_ad")
#: Columns of the table of single classes that is folded away.
DETAIL_METRICS = (
    *(f"{kind}_{name}" for kind in ("sensitivity", "specificity") for name in ("cn", "mci", "ad")),
    "macro_f1",
)
#: Failed scans that the page lists by name; all are counted, and all are in pack/status.tsv.
MAX_LISTED = 40
#: Notes that the page shows; all are counted, and all are in tables/notes.tsv.
MAX_NOTES = 6


def report(
    *,
    tables_dir: Path,
    scans_path: Path,
    pack_dir: Path,
    settings: config.Report,
    study: config.Study,
    page_path: Path,
    figures_dir: Path,
    exclusions_path: Path | None = None,
    splits_path: Path | None = None,
    notes_path: Path | None = None,
    demographics_path: Path | None = None,
    register_dir: Path | None = None,
    model_dirs: Sequence[Path] = (),
    explain_dir: Path | None = None,
    ablation_tables_dir: Path | None = None,
    ablated_dirs: Sequence[Path] = (),
    review_path: Path | None = None,
    lab_dir: Path | None = None,
    audit_dir: Path | None = None,
    experiment_dirs: Sequence[Path] = (),
    subgroups_path: Path | None = None,
    shift_path: Path | None = None,
    progression_dir: Path | None = None,
    baseline_dir: Path | None = None,
    fuse_dir: Path | None = None,
) -> Path:
    """Draw the figures and write the page; returns `page_path`.

    Parameters
    ----------
    tables_dir : path
        The `tables` folder of `evaluate`.
    scans_path, exclusions_path, notes_path, splits_path, demographics_path : path
        The tables of `ingest`, `split` and `demographics`.
    pack_dir : path
        The cache: volumes.npy, index.tsv, meta.json, roi_volumes.tsv, status.tsv.
    study : config.Study
        What was run: told on the page with its digest; a study with a `phantom` section is called synthetic.
        Its template and labels give the outlines.
    register_dir : path
        The folder of `register`, with a picture of every scan.
    model_dirs : sequence of path
        Model folders `<model>/seed-<n>` with history.tsv.
    explain_dir : path
        Saliency maps of one model, in a folder of its name.
    ablation_tables_dir, ablated_dirs : paths
        The `tables` folder of `evaluate` on a base model and its ablations, and their model folders; without them the page has
        no such section.
    review_path : path
        The page of `review`, which this page links to.
    lab_dir, audit_dir : paths
        The folders of `lab mri` and `lab audit`.
    experiment_dirs : sequence of path
        The folders of `lab linear`, `lab images` and `lab tables`, of these names.
    subgroups_path, shift_path, progression_dir : paths
        The tables of `subgroups` and `shift`, and the folder of those of `progression`.
    baseline_dir, fuse_dir : path
        The folders of `baseline` and `fuse`.
    """
    scans = read_scans(scans_path)
    people = settings.in_house or study.phantom is not None  # a phantom is no one; a person's scan may not be passed on
    results, differences = RESULTS.read(tables_dir / "results.tsv"), DIFFERENCES.read(tables_dir / "differences.tsv")
    states = accounting.scan_states(scans, pack_dir / "status.tsv")
    counted = accounting.account(scans, _read(EXCLUSIONS, exclusions_path), states, _read(SPLIT, splits_path))
    notes = _read(NOTES, notes_path)
    called = privacy.names(
        scans,
        notes,
        tables_dir.parent / "private" / "codes.tsv",
        in_house=settings.in_house,
    )
    varied = ablations.read(ablation_tables_dir, ablated_dirs, study)
    subjects = SUBJECTS.read(tables_dir / "subjects.tsv").rename(columns={"n_rows": "n_scans"})
    family, calibration = comparisons.compared(differences, settings.reference), trust.read(tables_dir)
    COMPARISONS.write(family, tables_dir / "comparisons.tsv")
    ABLATIONS.write(varied, tables_dir / "ablations.tsv")
    level, tiny = float(results["level"].iloc[0]), set() if people else privacy.tiny(results)
    results, differences, subjects, varied, family = (
        privacy.without(table, tiny) for table in (results, differences, subjects, varied, family)
    )
    calibration, varied_groups = trust.without(calibration, tiny), ablations.groups(varied)
    baselines = baseline_told.read(baseline_dir, fuse_dir)
    misled = mislead.read(lab_dir, audit_dir, page_path.parent)
    others = elsewhere.read(experiment_dirs, page_path.parent)
    stems = {f"lab_{one['name']}": one["stem"] for one in others if one["stem"]}
    pictures = figures.Pictures(Path(figures_dir), {})
    for name, stem in (stems | ({} if misled is None else misled["stems"])).items():
        pictures.take(name, stem)
    confusion, roc = (
        privacy.without(schema.read(tables_dir / f"{name}.tsv"), tiny)
        for schema, name in ((CONFUSION, "confusion"), (ROC, "roc"))
    )
    by_class = results if people else privacy.enough(results, confusion, counted)
    whom = for_whom.read(subgroups_path, shift_path, progression_dir, called)
    with style.drawing():
        figures.draw_scores(
            pictures,
            results,
            roc if people else privacy.enough(roc, confusion, counted),
            _told(confusion if people else privacy.enough(confusion, confusion, counted), in_house=settings.in_house),
        )
        pictures.add("accounting", consort.draw(accounting.flow(counted, in_house=settings.in_house)))
        figures.draw_reliability(pictures, calibration.curves)
        figures.draw_learning(pictures, _in_order(model_dirs, results))
        volumes = figures.draw_volumes(pictures, pack_dir, scans, dots=people)
        anatomy = figures.read_anatomy(study.register.template, study.register.template_mask, study.measure.labels)
        chosen = figures.draw_examples(pictures, pack_dir, volumes, anatomy, shown=people)
        if explain_dir:
            figures.draw_saliency(pictures, explain_dir, anatomy, people=people)
        if register_dir and people:
            figures.draw_qc(pictures, register_dir, states, called)
        for_whom.draw(pictures, whom)
    failed = states[states["status"] == "fail"].fillna({"step": "", "reason": ""})
    evaluated = provenance.sidecar(tables_dir / "results.tsv")
    evaluated = provenance.read_json(evaluated) if evaluated.is_file() else {}
    inputs = {
        path.name: provenance.digest_file(path)
        for path in (tables_dir / "results.tsv", scans_path, pack_dir / "status.tsv")
    }
    sources = [
        path for path in (scans_path, demographics_path, pack_dir / "volumes.npy", tables_dir / "results.tsv") if path
    ]
    context = {
        "title": settings.title,
        "phantom": words.phantom_facts(study.phantom) if study.phantom else None,
        "in_short": opening.in_short(results, differences, settings.reference),
        "methods": methods.written(
            study=study,
            counts={"n_scans": len(scans), "n_subjects": len(scans.drop_duplicates(["cohort", "subject_id"]))},
            sources=sorted(set(volumes["source"])),
            packed=provenance.read_json(pack_dir / "meta.json"),
            results=results,
            evaluated=evaluated,
            model_dirs=model_dirs,
            ablated=list(dict.fromkeys(varied["model"])),
            more=methods_after.written(
                study=study,
                baselines=baselines,
                calibration=calibration,
                family=family,
                reference=settings.reference,
                whom=whom,
                explain_dir=explain_dir,
            ),
        ),
        "groups": score_groups.results_of(results, MAIN_METRICS),
        "n_tiny": sum(split in UNSEEN for _, split in tiny),
        "class_groups": score_groups.results_of(by_class, CLASS_METRICS),
        "detail_groups": score_groups.results_of(by_class, DETAIL_METRICS),
        "certain": score_groups.without_width(by_class, (*CLASS_METRICS, *DETAIL_METRICS)),
        "subject_groups": score_groups.results_of(subjects, MAIN_METRICS),
        "calibration": trust.told(calibration, people=people),
        "level": f"{100 * level:g}",
        "guessing": words.guessing_note(results),
        "meaning": words.meaning(results, differences, settings.reference),
        "reference": settings.reference,
        "versus": (versus := score_groups.differences_of(differences, settings.reference)),
        "caution": words.caution(level, sum(len(group["methods"]) for group in versus)),
        "family": comparisons.texts(family),
        "family_said": comparisons.sentences(family, settings.reference),
        "n_left_out": int(LEFT_OUT.read(tables_dir / "left_out.tsv")["scan_id"].nunique()),
        "published": score_groups.published_beside(results, study.cohorts),
        "published_source": published.SOURCE,
        "demographics": who.demographic_rows(demographics_path, in_house=settings.in_house)
        if demographics_path
        else None,
        "counted": accounting.lines(counted, in_house=settings.in_house),
        "given": {"exclusions": exclusions_path is not None, "splits": splits_path is not None},
        "notes": None if notes is None else _notes(notes.head(MAX_NOTES if people else 0), called),
        "n_notes": 0 if notes is None else len(notes),
        "failed": _listed(failed.head(MAX_LISTED), "reason", called),
        "n_failed": len(failed),
        "examples": {name: called.scan(scan_id) for name, scan_id in chosen.items()},
        "in_house": settings.in_house,
        "people": people,
        "viewer": viewer.for_page(
            anatomy,
            figures.viewer_scans(pack_dir, explain_dir, chosen) if people else {},
            figures.viewer_maps(explain_dir, people=people) if explain_dir else {},
        ),
        "review_link": pages.link(review_path, page_path.parent) if review_path else None,
        "volume_source": words.volume_source(volumes),
        "without_volumes": _listed(volumes[volumes["note"].notna()].head(MAX_LISTED), "note", called),
        "n_without_volumes": int(volumes["note"].notna().sum()),
        "ablations": varied_groups if ablation_tables_dir else None,
        "ablated": next(iter(varied["model"]), None),
        "ablation_caution": words.caution(level, sum(len(group["methods"]) - 1 for group in varied_groups)),
        "misled": misled,
        "others": others,
        "whom": for_whom.told(whom),
        "baselines": baselines,
        "models": list(dict.fromkeys(results["model"])),
        "explained": explain_dir.name if explain_dir else None,
        "believed": believed.read(explain_dir, people=people),
        "pictures": {name: page.picture(stem) for name, stem in pictures.stems.items()},
        "config": reproduce.shown(study),
        "config_digest": provenance.digest_json(study.model_dump(mode="json")),
        "hashes": reproduce.hashes(inputs | evaluated.get("inputs", {})),
        "commands": reproduce.commands([*sources, *(folder / "predictions.tsv" for folder in model_dirs)], study),
        "versions": provenance.versions(),
    }
    _write_tables(tables_dir, demographics_path, counted, notes)
    provenance.write_text(page_path, page.render("report.html.j2", context, scripts=[viewer.script()]))
    provenance.record(page_path, step="report", version=VERSION, inputs=inputs, settings=settings)
    return page_path


def _read(schema: Schema, path: Path | None) -> pd.DataFrame | None:
    """A table that the report may do without."""
    return schema.read(path) if path else None


def _listed(rows: pd.DataFrame, words_in: str, called: privacy.Names) -> list[dict[str, Any]]:
    """Rows of single scans as the page may tell them: the scan's name, and the words of one column."""
    return [
        {**row, "scan_id": called.scan(row["scan_id"]), words_in: called.words(row[words_in], row["scan_id"])}
        for row in rows.to_dict("records")
    ]


def _told(confusion: pd.DataFrame, *, in_house: bool) -> pd.DataFrame:
    """The confusion matrices without the classes of which a group has so few scans that a cell points at someone."""
    per_class = confusion.groupby(["model", "seed", "cohort", "split", "diagnosis"])["n_scans"].transform("sum")
    small = per_class.map(privacy.few) & (not in_house)
    return confusion.assign(n_scans=confusion["n_scans"].astype(float).mask(small))


def _notes(notes: pd.DataFrame, called: privacy.Names) -> list[dict[str, Any]]:
    """Notes on subjects as the page may tell them."""
    return [
        {
            "cohort": row.cohort,
            "subject_id": called.subject(row.cohort, row.subject_id),
            "months": row.months,
            "note": called.words(row.note, row.subject_id, row.subject_id.removeprefix("sub-")),
        }
        for row in notes.itertuples(index=False)
    ]


def _write_tables(
    tables_dir: Path, demographics_path: Path | None, counted: pd.DataFrame, notes: pd.DataFrame | None
) -> None:
    """Put the page's other tables beside those of `evaluate`: accounting, notes and demographics."""
    accounting.ACCOUNTING.write(counted, tables_dir / "accounting.tsv")
    if notes is not None:
        NOTES.write(notes, tables_dir / "notes.tsv")
    if demographics_path:
        with provenance.atomic(tables_dir / "demographics.tsv") as draft:
            shutil.copyfile(demographics_path, draft)


def _in_order(model_dirs: Sequence[Path], results: pd.DataFrame) -> list[Path]:
    """Model folders in the order in which the tables name the models; others last."""
    models = list(dict.fromkeys(results["model"]))
    places = {name: place for place, name in enumerate(models)}
    return sorted(model_dirs, key=lambda folder: (places.get(folder.parent.name, len(models)), folder.name))
