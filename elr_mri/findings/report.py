"""One self-contained page that a clinician-scientist can read, and every figure beside it.

The page opens with the result table in the talk's form, then says how sure it is, then shows the
data, the pictures and how to reproduce it. What was not given (no saliency, no registration folder …)
is named in its place, never left out in silence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from elr_mri import config, pages, provenance
from elr_mri.findings import ablations, accounting, believed, consort, figures, mislead, page, published, style, words
from elr_mri.findings.evaluate import MAIN_METRICS, UNSEEN
from elr_mri.findings.tables import ABLATIONS, CONFUSION, DIFFERENCES, LEFT_OUT, RESULTS, ROC
from elr_mri.scans.demographics import DEMOGRAPHICS
from elr_mri.scans.schema import Schema
from elr_mri.scans.table import EXCLUSIONS, NOTES, SPLIT, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["report"]
CLASS_METRICS = ("auc_cn", "auc_mci", "auc_ad")
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
    """
    scans = read_scans(scans_path)
    results, differences = RESULTS.read(tables_dir / "results.tsv"), DIFFERENCES.read(tables_dir / "differences.tsv")
    states = accounting.scan_states(scans, pack_dir / "status.tsv")
    counted = accounting.account(scans, _read(EXCLUSIONS, exclusions_path), states, _read(SPLIT, splits_path))
    notes = _read(NOTES, notes_path)
    varied = ablations.read(ablation_tables_dir, ablated_dirs, study)
    varied_groups = ablations.groups(varied)
    misled = mislead.read(lab_dir, audit_dir, page_path.parent)
    pictures = figures.Pictures(Path(figures_dir), {} if misled is None else misled["stems"])
    with style.drawing():
        figures.draw_scores(
            pictures, results, ROC.read(tables_dir / "roc.tsv"), CONFUSION.read(tables_dir / "confusion.tsv")
        )
        pictures.add("accounting", consort.draw(accounting.flow(counted)))
        figures.draw_learning(pictures, _in_order(model_dirs, results))
        volumes = figures.draw_volumes(pictures, pack_dir, scans)
        anatomy = figures.read_anatomy(study.register.template, study.register.template_mask, study.measure.labels)
        chosen = figures.draw_examples(pictures, pack_dir, volumes, anatomy)
        if explain_dir:
            figures.draw_saliency(pictures, explain_dir, anatomy)
        if register_dir:
            figures.draw_qc(pictures, register_dir, states)
    failed = states[states["status"] == "fail"].fillna({"step": "", "reason": ""})
    sources = [
        path for path in (scans_path, demographics_path, pack_dir / "volumes.npy", tables_dir / "results.tsv") if path
    ]
    context = {
        "title": settings.title,
        "phantom": words.phantom_facts(study.phantom) if study.phantom else None,
        "groups": result_groups(results, MAIN_METRICS),
        "class_groups": result_groups(results, CLASS_METRICS),
        "level": f"{100 * results['level'].iloc[0]:g}",
        "meaning": words.meaning(results, differences, settings.reference),
        "reference": settings.reference,
        "versus": (versus := difference_groups(differences, settings.reference)),
        "caution": words.caution(results["level"].iloc[0], sum(len(group["methods"]) for group in versus)),
        "n_left_out": int(LEFT_OUT.read(tables_dir / "left_out.tsv")["scan_id"].nunique()),
        "published": published_groups(results),
        "published_source": published.SOURCE,
        "demographics": _demographic_rows(demographics_path) if demographics_path else None,
        "counted": accounting.lines(counted),
        "given": {"exclusions": exclusions_path is not None, "splits": splits_path is not None},
        "notes": None if notes is None else list(notes.head(MAX_NOTES).itertuples(index=False)),
        "n_notes": 0 if notes is None else len(notes),
        "failed": list(failed.head(MAX_LISTED).itertuples(index=False)),
        "n_failed": len(failed),
        "examples": chosen,
        "review_link": pages.link(review_path, page_path.parent) if review_path else None,
        "volume_source": words.volume_source(volumes),
        "without_volumes": list(volumes[volumes["note"].notna()].head(MAX_LISTED).itertuples(index=False)),
        "n_without_volumes": int(volumes["note"].notna().sum()),
        "ablations": varied_groups if ablation_tables_dir else None,
        "ablated": next(iter(varied["model"]), None),
        "ablation_caution": words.caution(
            results["level"].iloc[0], sum(len(group["methods"]) - 1 for group in varied_groups)
        ),
        "misled": misled,
        "explained": explain_dir.name if explain_dir else None,
        "believed": believed.read(explain_dir),
        "pictures": {name: page.picture(stem) for name, stem in pictures.stems.items()},
        "config": _shown(study),
        "config_digest": provenance.digest_json(study.model_dump(mode="json")),
        "commands": _commands([*sources, *(folder / "predictions.tsv" for folder in model_dirs)], study),
        "versions": provenance.versions(),
    }
    _write_tables(tables_dir, demographics_path, counted, notes)
    ABLATIONS.write(varied, tables_dir / "ablations.tsv")
    provenance.write_text(page_path, page.render("report.html.j2", context))
    inputs = {
        path.name: provenance.digest_file(path)
        for path in (tables_dir / "results.tsv", scans_path, pack_dir / "status.tsv")
    }
    provenance.record(page_path, step="report", version=VERSION, inputs=inputs, settings=settings)
    return page_path


def _read(schema: Schema, path: Path | None) -> pd.DataFrame | None:
    """A table that the report may do without."""
    return schema.read(path) if path else None


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


def result_groups(results: pd.DataFrame, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """For each unseen group its title, counts, and one row per method: name, seeds, and (value, interval) texts."""
    groups = []
    for (cohort, split), rows in results[results["split"].isin(UNSEEN)].groupby(["cohort", "split"], sort=False):
        methods = []
        for model, found in rows.groupby("model", sort=False):
            by_metric = found.set_index("metric")
            cells = [_cell(*by_metric.loc[metric, ["value", "low", "high"]].astype(float)) for metric in metrics]
            methods.append({"name": model, "n_seeds": int(found["n_seeds"].iloc[0]), "cells": cells})
        groups.append(
            {
                "title": style.group_title(cohort, split),
                "methods": methods,
                "n_scans": int(rows["n_scans"].iloc[0]),
                "n_subjects": int(rows["n_subjects"].iloc[0]),
            }
        )
    return groups


def difference_groups(differences: pd.DataFrame, reference: str) -> list[dict[str, Any]]:
    """As `result_groups`, for the differences of every other method from `reference`, in percentage points."""
    versus = words.against(differences, reference)
    groups = []
    for (cohort, split), rows in versus[versus["split"].isin(UNSEEN)].groupby(["cohort", "split"], sort=False):
        methods = []
        for model, found in rows.groupby("model", sort=False):
            by_metric = found.set_index("metric")
            cells = [
                _cell(*by_metric.loc[metric, ["difference", "low", "high"]].astype(float), sign="+")
                for metric in MAIN_METRICS
            ]
            methods.append({"name": model, "cells": cells})
        groups.append({"title": style.group_title(cohort, split), "methods": methods})
    return groups


def published_groups(results: pd.DataFrame) -> list[dict[str, Any]]:
    """The published rows by data set, each score with that of our counterpart, where there is one."""
    ours = results.drop_duplicates(["model", "split", "metric"]).set_index(["model", "split", "metric"])["value"]
    groups = []
    for data, split in published.SPLIT_OF.items():
        methods = []
        for row in (row for row in published.PUBLISHED if row.data == data):
            here = [ours.get((published.COUNTERPART[row.method], split, metric)) for metric in MAIN_METRICS]
            cells = [
                (getattr(row, m), None if x is None else f"{100 * x:.1f}")
                for m, x in zip(MAIN_METRICS, here, strict=True)
            ]
            methods.append({"name": row.method, "counterpart": published.COUNTERPART[row.method], "cells": cells})
        groups.append({"title": data, "methods": methods})
    return groups


def _cell(value: float, low: float, high: float, sign: str = "") -> tuple[str, str]:
    """A share and its interval as percent texts; a dash where undefined."""
    value, low, high = (words.percent(number, sign) for number in (value, low, high))
    return value, f"{low} to {high}"


def _in_order(model_dirs: Sequence[Path], results: pd.DataFrame) -> list[Path]:
    """Model folders in the order in which the tables name the models; others last."""
    models = list(dict.fromkeys(results["model"]))
    places = {name: place for place, name in enumerate(models)}
    return sorted(model_dirs, key=lambda folder: (places.get(folder.parent.name, len(models)), folder.name))


def _demographic_rows(path: Path) -> list[dict[str, str]]:
    """The demographic table as texts."""
    rows = []
    for row in DEMOGRAPHICS.read(path).itertuples(index=False):
        age = "–" if pd.isna(row.age_mean_years) else f"{row.age_mean_years:.1f}"
        spread = "" if pd.isna(row.age_sd_years) else f" ({row.age_sd_years:.1f})"
        women = "–" if pd.isna(row.female_share) else f"{100 * row.female_share:.0f} %"
        rows.append(
            {
                "cohort": row.cohort,
                "split": row.split,
                "diagnosis": row.diagnosis,
                "subjects": row.subjects,
                "scans": row.scans,
                "age": age + spread,
                "women": women,
            }
        )
    return rows


def _shown(study: config.Study) -> str:
    """The config as JSON, which Snakemake reads as it is; of paths to data only the last part is told."""
    content = study.model_dump(mode="json", exclude_defaults=True)
    for cohort in content["cohorts"]:
        cohort["path"] = Path(cohort["path"]).name
    if path := content.get("measure", {}).get("path"):
        content["measure"]["path"] = Path(path).name
    tables = content.get("split", {}).get("published") or {}
    tables.update({split: Path(path).name for split, path in tables.items() if split != "labels"})
    return json.dumps(content, indent=1, ensure_ascii=False)


def _commands(outputs: Sequence[Path], study: config.Study) -> list[tuple[str, str]]:
    """(step, command) of every output that has a sidecar, without the folders that the cohorts lie in."""
    told = [provenance.read_json(beside) for path in outputs if (beside := provenance.sidecar(path)).is_file()]
    for one in told:
        for cohort in study.cohorts:
            one["command"] = one["command"].replace(cohort.path, Path(cohort.path).name)
    commands = {(one["step"], one["command"]) for one in told}
    order = list(dict.fromkeys(one["step"] for one in told))
    return sorted(commands, key=lambda pair: (order.index(pair[0]), pair[1]))
