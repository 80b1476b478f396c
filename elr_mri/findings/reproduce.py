"""How to make a study again: its config and the command of each step, without the folders that its data lie in."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elr_mri import config, provenance
from elr_mri.findings.privacy import FOLDERS

#: A text that is an absolute path, blanks and all.
ABSOLUTE = re.compile(r"(?:~?/|[A-Za-z]:\\)")


def shown(study: config.Study) -> str:
    """The config as JSON, which Snakemake reads as it is; of paths to data only the last part is told."""
    content = study.model_dump(mode="json", exclude_defaults=True)
    for cohort in content["cohorts"]:
        cohort["path"] = Path(cohort["path"]).name
    if path := content.get("measure", {}).get("path"):
        content["measure"]["path"] = Path(path).name
    tables = content.get("split", {}).get("published") or {}
    tables.update({split: Path(path).name for split, path in tables.items() if split != "labels"})
    return json.dumps(_plain(content), indent=1, ensure_ascii=False)


def _plain(content: Any) -> Any:
    """The same with every absolute path cut to its last part."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    if not isinstance(content, str):
        return content
    return re.split(r"[/\\]", content.rstrip("/\\"))[-1] if ABSOLUTE.match(content) else FOLDERS.sub("", content)


def commands(outputs: Sequence[Path], study: config.Study) -> list[tuple[str, str]]:
    """(step, command) of every output that has a sidecar, without the folders that the cohorts lie in."""
    told = [provenance.read_json(beside) for path in outputs if (beside := provenance.sidecar(path)).is_file()]
    paths = {cohort.path: Path(cohort.path).name for cohort in study.cohorts}
    for one in told:
        one["command"] = " ".join(_quoted(_cut(word, paths)) for word in shlex.split(one["command"]))
    found = {(one["step"], one["command"]) for one in told}
    order = list(dict.fromkeys(one["step"] for one in told))
    return sorted(found, key=lambda pair: (order.index(pair[0]), pair[1]))


def _cut(word: str, paths: Mapping[str, str]) -> str:
    """One word of a command: of a folder, wherever it stands and whatever its name is, the last part alone."""
    if word[:1] in ("{", "["):
        try:
            return json.dumps(_named(json.loads(word), paths), ensure_ascii=False)
        except json.JSONDecodeError:
            pass
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value in paths:
        return option + equals + paths[value]
    cut = _plain(value)
    return option + equals + ("…/" * (bool(ABSOLUTE.match(value)) and cut != value)) + cut


def _quoted(word: str) -> str:
    """A word as a shell takes it; the dots that stand for a folder need no quotes."""
    return word if shlex.quote(plain := word.replace("…", "")) == plain else shlex.quote(word)


def _named(content: Any, paths: Mapping[str, str]) -> Any:
    """What JSON holds, with the last part of the cohorts' folders and of every absolute path."""
    if isinstance(content, dict):
        return {key: _named(value, paths) for key, value in content.items()}
    if isinstance(content, list):
        return [_named(value, paths) for value in content]
    return paths.get(content, _plain(content)) if isinstance(content, str) else content


def hashes(digests: Mapping[str, str]) -> list[tuple[str, str]]:
    """(file, SHA-256) of what the numbers come from; of a path the last folders alone."""
    return [("/".join(Path(name).parts[-3:]), digest) for name, digest in digests.items()]
