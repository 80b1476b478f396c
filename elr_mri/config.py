"""Reading the configuration: a stage's own section from a study's YAML file or from inline JSON.

A step receives its own section and nothing else. On the command line a section comes as
`--config`: either a study's YAML file, of which the step takes its own section, or that
section itself as inline JSON, which is what the workflow passes. The sections are in
`sections/`; they are named here too, so that `config.Register` is all a reader has to know.
"""

from __future__ import annotations

import difflib
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from elr_mri import sections
from elr_mri.errors import BadInput
from elr_mri.sections.base import Section

if TYPE_CHECKING:
    from elr_mri.sections.learning import Train
    from elr_mri.sections.scans import Cohort, Published
    from elr_mri.sections.study import Study

__all__ = [
    *sections.__all__,
    "check_study",
    "cohorts",
    "parse",
    "read_yaml",
    "section",
    "study",
    "training",
]

T = TypeVar("T", bound=Section)


def __getattr__(name: str) -> Any:
    """A section by its name, `config.Register`: imported when it is asked for."""
    if name in sections.__all__:
        return getattr(sections, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def parse(model: type[T], content: Any, *, where: str) -> T:
    """Validate `content` as `model`; raises `BadInput` that names the key, and the nearest known one if it is unknown."""
    try:
        return model.model_validate(content)
    except ValidationError as problem:
        fault = min(problem.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        if fault["type"] == "extra_forbidden":
            known = _known_keys(model, fault["loc"][:-1])
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0)
            raise BadInput(
                expected="a known key",
                got=repr(key),
                where=where,
                fix=f"Did you mean {near[0]!r}?" if near else "Remove it.",
            ) from problem
        told, _, own = fault["msg"].removeprefix("Value error, ").partition("; got ")
        raise BadInput(
            expected=told[0].lower() + told[1:],
            got=own or _told(fault),
            where=f"{where}, key {key}",
            fix="See config/README.md for every key.",
        ) from problem


def _told(fault: Mapping[str, Any]) -> str:
    """What was given in place of what a fault of pydantic's expects; a whole section is not repeated."""
    if fault["type"] == "missing":
        return "nothing"
    whole = fault["type"] == "value_error" and isinstance(fault["input"], dict)
    return "something else" if whole else reprlib.repr(fault["input"])


def _known_keys(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Field names of the section that `path` leads to; a key of a mapping (a model's slug) is no field name."""
    in_mapping = False
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) and not in_mapping else None
        in_mapping = field is not None and get_origin(field.annotation) is dict
        if field is None:
            continue
        model = next((m for m in _models_in(field.annotation)), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation such as `dict[str, Model]` or `Phantom | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a config file; raises `BadInput` where it is absent or not a mapping."""
    import yaml  # lazily: the workflow passes inline JSON and needs no YAML reader

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadInput(
            expected="a readable config file", got=problem.strerror or "nothing", where=str(path), fix="Check the path."
        ) from problem
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as problem:
        raise BadInput(
            expected="valid YAML in UTF-8",
            got=str(problem),
            where=str(path),
            fix="Correct the syntax.",
        ) from problem
    if not isinstance(content, dict):
        raise BadInput(
            expected="a mapping of sections", got=type(content).__name__, where=str(path), fix="See config/config.yaml."
        )
    return content


def section(model: type[T], name: str, source: str) -> T:
    """One stage's section from `source`: inline JSON of the section itself, or the path of a config file."""
    if source.lstrip().startswith("{"):
        return parse(model, _inline(source, where=f"--config ({name})"), where=f"--config ({name})")
    found = getattr(study(source), name)
    if found is None:
        raise BadInput(expected=f"a section {name!r}", got="none", where=source, fix=f"Add `{name}:` to it.")
    return found


def _inline(source: str, *, where: str) -> Any:
    """A value given as JSON on the command line."""
    try:
        return json.loads(source)
    except json.JSONDecodeError as problem:
        raise BadInput(
            expected="valid JSON", got=str(problem), where=where, fix="Check quotes and brackets."
        ) from problem


def study(source: str) -> Study:
    """A whole study from `source`: inline JSON, or the path of a config file."""
    if source.lstrip().startswith("{"):
        return parse(sections.Study, _inline(source, where="--study"), where="--study")
    return parse(sections.Study, read_yaml(source), where=source)


def training(source: str) -> Train:
    """The training section with the ablations' variants among its models, from inline JSON of the section or a config file."""
    if source.lstrip().startswith("{"):
        return section(sections.Train, "train", source)
    return study(source).training()


def cohorts(source: str) -> tuple[Cohort, ...]:
    """The cohorts of a study from `source`: an inline JSON list, or the path of a config file."""
    listed = _inline(source, where="--cohorts") if source.lstrip().startswith("[") else read_yaml(source).get("cohorts")
    where = "--cohorts" if source.lstrip().startswith("[") else source
    return parse(sections.Cohorts, {"cohorts": listed}, where=where).cohorts


def published(parts: Sequence[str]) -> Published:
    """Published split tables from the command line: `train=A.tsv`, `val=B.tsv` …, also several joined by commas."""
    named = [one.partition("=") for part in parts for one in re.split(r",(?=\w+=)", part)]
    if len({name for name, _, _ in named}) < len(named):
        raise BadInput(
            expected="each split once", got=", ".join(parts), where="--published", fix="Name one table for each."
        )
    return parse(sections.Published, {name: path for name, _, path in named}, where="--published")


def check_study(content: dict[str, Any]) -> str | None:
    """The first fault of a whole config as one line, or None. The workflow asks before anything runs."""
    try:
        parse(sections.Study, content, where="config")
    except BadInput as problem:
        return str(problem)
    return None
