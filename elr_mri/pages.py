"""HTML pages from templates. Jinja escapes all values, so that an id such as `<script>` in a table shows as text."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(name: str, context: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """The page `name`, from the first of `folders` that has it.

    A name that the template uses and `context` lacks is an error, never a blank.
    """
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(context)


def link(target: Path, folder: Path) -> str:
    """The relative address of a file from a page in `folder`."""
    return quote(Path(os.path.relpath(target, folder)).as_posix())


def hashed(inline: str) -> str:
    """The source expression of one inline script or style, for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
