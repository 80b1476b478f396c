"""Self-contained HTML pages: templates with every picture inside, nothing loaded from anywhere.

Jinja escapes all values, so that an id such as `<script>` in a table shows as text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

TEMPLATES = Path(__file__).with_name("templates")
#: A picture that is larger as stored is put into the page as JPEG; the full one stays among the figures.
MAX_BYTES = 300_000


def render(name: str, context: Mapping[str, Any], *, folder: Path | None = None) -> str:
    """The page `name` from `folder` (default: this zone's), which may extend `base.html.j2` of this zone.

    A name that the template uses and `context` lacks is an error, never a blank.
    """
    folders = [folder, TEMPLATES] if folder else [TEMPLATES]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(context)


def picture(stem: Path) -> str:
    """A figure as `data:` address: the SVG if it is small, else the PNG, as JPEG if it is large."""
    svg, png = (stem.parent / f"{stem.name}.{kind}" for kind in ("svg", "png"))
    if svg.stat().st_size <= MAX_BYTES:
        return _data("image/svg+xml", svg.read_bytes())
    return photo(png)


def photo(png: Path) -> str:
    """A PNG file as `data:` address, as JPEG if it is large."""
    content = png.read_bytes()
    if len(content) <= MAX_BYTES:
        return _data("image/png", content)
    smaller = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(smaller, "JPEG", quality=86, optimize=True)
    return _data("image/jpeg", smaller.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
