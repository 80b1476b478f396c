"""`doctor`: one page on a study before it runs. Nothing is written; of tables the header and the subjects are read."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from elr_mri import config
from elr_mri.config import Study
from elr_mri.doctor import look, machine, needs
from elr_mri.doctor.download import Download, Missing, Table, sized, some
from elr_mri.doctor.machine import NOT_INSTALLED, Machine, Package
from elr_mri.doctor.sites import GRAVE_TABLES, WITHOUT_TABLE
from elr_mri.errors import BadInput

#: Columns of the page where the output is no terminal, and its bounds where it is.
WIDTH, NARROWEST, WIDEST = 110, 60, 140

#: Voxels of the shipped head at 1 mm, from which phantoms are made.
_PHANTOM_VOXELS = 181 * 217 * 181

#: A line of the page: a mark, a short name, the text.
Line = tuple[str, str, str]


def doctor(source: str) -> None:
    """Print the page of a study; raises `BadInput` where something is missing that a run cannot do without."""
    study = config.study(source)
    text, missing = examine(study, title=source, width=_width())
    print(text.encode(sys.stdout.encoding or "utf-8", "replace").decode(sys.stdout.encoding or "utf-8"))
    if missing:
        raise BadInput(
            expected="a study that can start",
            got=f"{len(missing)} required thing{'s' * (len(missing) > 1)} missing ({'; '.join(m.what for m in missing)})",
            where=source,
            fix="The section 'Missing' of the page says where each is to be had.",
        )


def examine(study: Study, *, title: str, width: int) -> tuple[str, list[Missing]]:
    """The page as plain text of at most `width` columns, and what is missing that a run cannot do without."""
    found = [look.look(cohort, study) for cohort in study.cohorts]
    here = machine.inspect(study.results, study.train, study.train.model_copy(update={"models": study.ablated()}))
    sections = [(_heading(f, study), _cohort(f, study)) for f in found]
    lines, short_of_disk = _resources(found, study, here)
    sections += [("Disk, memory, time", lines), ("This machine", _machine(here, study))]
    missing = [replace(m, what=f"{f.name}: {m.what}") for f in found for m in f.missing]
    missing += short_of_disk + _software(here, study)
    if missing:
        sections.append(("Missing", [("MISSING", "", f"{m.what}; {m.remedy}") for m in missing]))
    n_warnings = sum(mark == "look" for _, lines in sections for mark, _, _ in lines)
    verdict = f"not ready: {len(missing)} missing" if missing else "ready: a run can start"
    return _render(title, sections, f"{verdict}; {n_warnings} to look at", width), missing


def _heading(found: Download, study: Study) -> str:
    role = next(cohort.role for cohort in study.cohorts if cohort.name == found.name)
    return f"Cohort {found.name} ({found.format}, {role}): {found.path}"


def _cohort(found: Download, study: Study) -> list[Line]:
    """What a cohort's folder holds, its tables with their columns, and what to look at."""
    lines: list[Line] = []
    cohort = next(c for c in study.cohorts if c.name == found.name)
    if look.made_by_run(cohort, study):
        made = look.phantom_is_made(study)
        lines.append(
            (
                "ok",
                "phantom",
                "made by the study itself"
                + (", and there already" if made else "; not there yet: the run's first step writes it"),
            )
        )
        if not made:
            return lines
    if kinds := ", ".join(f"{n:,} {kind}" for kind, n in sorted(found.kinds.items()) if n):
        lines.append(("", "files", f"{kinds}; {sized(found.n_bytes)}"))
    lines += [("", "found", count) for count in found.counts]
    for table in found.tables:
        lines += _table(table, found)
    if found.unread:
        lines.append(("", "not read", some((path.name for path in found.unread), 5)))
    lines += [("look", "", warning) for warning in found.warnings]
    in_tables = {what for t in found.tables for what in (f"the table {t.name}", t.broken)}
    return lines + [("MISSING", "", m.what) for m in found.missing if m.what not in in_tables]


def _table(table: Table, found: Download) -> Iterable[Line]:
    """A table: its file, which column was taken for what, and what is lost for want of columns."""
    if not table.files:
        needed = any(
            m.what in (f"the table {table.name}", f"a clinical table, {table.name} or DXSUM") for m in found.missing
        )
        told = (
            f" ({WITHOUT_TABLE[table.name]}); from {table.where}" if table.name in WITHOUT_TABLE and not needed else ""
        )
        mark = "MISSING" if needed else "look" if table.name in GRAVE_TABLES else "-"
        yield mark, table.name, f"not found{told}"
        return
    name = table.files[0].name + (f" and {len(table.files) - 1} more" if len(table.files) > 1 else "")
    if table.broken:
        needed = any(m.what == table.broken for m in found.missing)
        yield "MISSING" if needed else "look", table.name, table.broken
    taken = ", ".join(f"{ours} <- {column}" for ours, column in table.columns.items() if column is not None)
    yield ("", "", f"else {taken}") if table.broken else ("ok", table.name, f"{name}: {taken}")
    for grave in (True, False):
        lost = [f"{column} ({loss})" for column, loss, is_grave in table.lacking if is_grave == grave]
        if lost:
            yield "look" if grave else "-", "", f"without {', '.join(lost)}"


def _resources(found: list[Download], study: Study, here: Machine) -> tuple[list[Line], list[Missing]]:
    """Disk by kind of file against what is free, memory per job; and a line where the disk is too small."""
    to_make = {
        c.name: look.phantom_scans(study, external=c.format == "nacc")
        for c in study.cohorts
        if look.made_by_run(c, study) and not look.phantom_is_made(study)
    }
    n_scans = sum(f.n_scans for f in found) + sum(to_make.values())
    lines: list[Line] = [("", "scans", f"about {n_scans:,} (visits with a T1 image and rows in the tables)")]
    missing: list[Missing] = []
    if find_spec("nibabel") is None or find_spec("scipy") is None:
        lines.append(("look", "disk", "not estimated: nibabel and scipy are not installed here"))
    elif n_scans:
        lines_of_disk, missing = _disk(found, study, here, n_scans, sum(to_make.values()))
        lines += lines_of_disk
    told = ", ".join(f"{stage} {n} (each {mb:,} MB)" for stage, mb, n in needs.jobs(here.cores, here.memory))
    lines.append(("", "memory", f"jobs that fit side by side: {told}"))
    lines.append(("", "time", "no estimate: only the built-in study has been timed (about 17 minutes on two cores)"))
    return lines, missing


def _disk(
    found: list[Download], study: Study, here: Machine, n_scans: int, n_to_make: int
) -> tuple[list[Line], list[Missing]]:
    """One line for each kind of file, the total, and what it leaves of the free disk."""
    told = [(n, f.n_scans) for f in found if f.n_scans and (n := needs.native_voxels(f.sample))]
    assumed = needs.NATIVE_VOXELS if study.phantom is None else round(_PHANTOM_VOXELS / study.phantom.spacing_mm**3)
    voxels = round(sum(n * k for n, k in told) / sum(k for _, k in told)) if told else assumed
    parameters = here.torch["parameters"] if here.torch else {}
    wanted = needs.disk(study, n_scans=n_scans, n_phantoms=n_to_make, native_voxels=voxels, parameters=parameters)
    lines: list[Line] = [
        ("", n.what, f"{n.each / 1e6:8.2f} MB x {n.n:,} = {sized(n.total)}: {n.formula}") for n in wanted
    ]
    if study.train.models and not parameters:
        lines.append(("look", "models", "not counted: torch is not there to tell their size"))
    total = sum(n.total for n in wanted)
    there = needs.size_under(Path(study.results) / "imaging") + needs.size_under(Path(study.results) / "learning")
    room = here.disk_free + there
    short = total > room
    text = f"{sized(total)} in all; {sized(here.disk_free)} free" + (
        f", and {sized(there)} of it written already" if there else ""
    )
    lines.append(("MISSING" if short else "ok", "disk", text))
    return lines, [
        Missing(
            f"disk space: {sized(total)} needed, {sized(room)} there for {study.results}",
            "free some, or set `results` to another disk",
        )
    ] if short else []


def _machine(here: Machine, study: Study) -> list[Line]:
    """Versions, torch and the GPU, the programs around."""
    fits = [p for p in here.packages if p.fits]
    others = [p for p in here.packages if p.installed and not p.fits]
    absent = [p for p in here.packages if not p.installed]
    lines: list[Line] = [
        ("", "versions", f"elr_mri {here.elr_mri}, Python {here.python}"),
        (
            "ok" if not others and not absent else "",
            "as pinned",
            ", ".join(f"{p.name} {p.pin}" for p in fits) or "none",
        ),
    ]
    lines += [("look", p.name, f"{p.installed} installed, {p.pin} pinned (for {', '.join(p.groups)})") for p in others]
    lines += [("look", p.name, f"not installed; {p.pin} pinned (for {', '.join(p.groups)})") for p in absent]
    if not here.packages:
        lines.append(("look", "pins", "unknown: neither the installed package nor pyproject.toml tells them"))
    memory = f"{sized(here.memory)} of memory free" if here.memory else "memory unknown"
    lines.append(("", "processor", f"{here.cores} cores, {memory}"))
    lines += _torch(here, study)
    lines.append(("ok" if here.snakemake else "look", "snakemake", "there" if here.snakemake else "not there"))
    lines.append(
        (
            "ok" if here.conda else "-",
            "conda",
            "there: --use-conda works" if here.conda else "not there: run without --use-conda",
        )
    )
    return lines


def _torch(here: Machine, study: Study) -> list[Line]:
    """Torch, its device and precision, the GPUs."""
    if here.torch is None:
        return [("look", "torch", here.torch_fault)]
    told, asked = here.torch, study.train.models and study.train.device != "cpu"
    gpus = ", ".join(f"{gpu['name']} ({sized(gpu['memory'])})" for gpu in told["gpus"])
    return [
        ("ok", "torch", f"{told['torch']}; trains on {told['device']} in {told['precision']}"),
        (
            "ok" if gpus else "look" if asked else "-",
            "GPU",
            gpus or "none that torch sees: full-size networks (96-voxel crops) need one",
        ),
        *(("look", "ablations", f"{slug} cannot be trained: {fault}") for slug, fault in told["faults"].items()),
    ]


def _software(here: Machine, study: Study) -> list[Missing]:
    """Software without which a run stops: packages of a zone where no conda can bring them, Snakemake, the GPU asked for."""
    missing = []
    absent = [p for p in here.packages if not p.installed and _needed(p, study)]
    if absent and not here.conda:
        pins = " ".join(f"{p.name}=={p.pin}" for p in absent)
        names = ", ".join(p.name for p in absent)
        missing.append(Missing(f"the packages {names}", f"pip install {pins}, or install conda and use --use-conda"))
    if not here.snakemake:
        pin = next((f"=={p.pin}" for p in here.packages if p.name == "snakemake"), "")
        missing.append(Missing("snakemake", f"pip install snakemake{pin}"))
    if here.torch and not here.torch["usable"]:
        missing.append(
            Missing(f"the GPU of train.device {study.train.device}", "set it to auto or cpu, or mend the driver")
        )
    if here.torch is None and here.torch_fault != NOT_INSTALLED and study.train.models:
        missing.append(
            Missing(f"a torch that works ({here.torch_fault})", "correct train.device, or install torch again")
        )
    return missing


def _needed(package: Package, study: Study) -> bool:
    """Whether a run without conda stops for want of a package; Snakemake has its own line, and no model no torch."""
    groups = set(package.groups) - {"workflow"} - (set() if study.train.models else {"learning"})
    return bool(groups)


def _render(title: str, sections: list[tuple[str, list[Line]]], verdict: str, width: int) -> str:
    """The page: no colour, no box, long text folded under its own column."""
    page = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, markup=False, emoji=False)
    page.print(_plain(f"elr-mri doctor: {title}"))
    for heading, lines in sections:
        page.print("\n" + _plain(heading))
        grid = Grid.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=7)
        grid.add_column(width=20, overflow="fold")
        grid.add_column(ratio=1, overflow="fold")
        for line in lines:
            grid.add_row(*map(_plain, line))
        page.print(grid)
    page.print(f"\n{verdict}")
    return "\n".join(line.rstrip() for line in page.file.getvalue().splitlines())


def _plain(text: str) -> str:
    """Text without what a terminal would obey or cannot show (file names and headers are the download's)."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _width() -> int:
    if not sys.stdout.isatty():
        return WIDTH
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
