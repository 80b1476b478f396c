"""The commands in the docs: lines of indented or fenced blocks that begin with a program's name."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), ROOT / "config" / "README.md", ROOT / "results" / "README.md", *(ROOT / "docs").glob("*.md")]
)
#: A line of a block that begins so is a command; what else stands in blocks is YAML, a drawing, or a table.
_PROGRAM = re.compile(
    r"(?:elr-mri|snakemake|make|python3?|pip|torchrun|source|cp|git|ruff|conda|docker|apptainer|sbatch|ssh|npm|cd|mkdir|rm|sudo|curl|wget|\.\S*/\S+)(?: |$)"
)


@dataclass(frozen=True)
class Command:
    """One command: where it stands, its text without variables and comment, and what it needs (empty: nothing)."""

    page: str
    line: int
    text: str
    needs: str

    @property
    def words(self) -> list[str]:
        first, *others = shlex.split(self.text)
        return [Path(first).name, *others]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def commands() -> list[Command]:
    """All commands of all pages, in order; a comment with `needs` says what a command needs; all of docs/clusters.md needs a cluster."""
    found = []
    for page in PAGES:
        fenced = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
                continue
            text = line.strip()
            if (fenced or line.startswith("    ")) and _PROGRAM.match(re.sub(r"^(?:\w+=\S+ )+", "", text)):
                command, _, comment = re.sub(r"^(?:\w+=\S+ )+", "", text).partition("  #")
                needs = re.search(r"\bneeds (.+)", comment)
                name = page.relative_to(ROOT).as_posix()
                told = needs[1] if needs else "a cluster" if name == "docs/clusters.md" else ""
                found.append(Command(name, number, command.strip(), told))
    return found


def links() -> list[tuple[str, Path, str]]:
    """(page, file, anchor) of every link of a page to a file of ours."""
    found = []
    for page in [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = target.partition("#")
                found.append((page.name, (page.parent / path).resolve() if path else page, anchor))
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}
