"""Self-contained HTML pages of this zone: every picture inside, nothing loaded from anywhere.

The page's own policy says so to the browser: no address but `data:` pictures, no style and no script but those whose hash it names, so
that even a markup that slipped through the templates' escaping could run nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from elr_mri import pages

TEMPLATES = Path(__file__).with_name("templates")
#: A picture that is larger as stored is put into the page as JPEG; the full one stays among the figures.
MAX_BYTES = 300_000


def render(name: str, context: Mapping[str, Any], *, folder: Path | None = None, scripts: Sequence[str] = ()) -> str:
    """The page `name` from `folder` (default: this zone's), which may extend `base.html.j2` of this zone.

    scripts : what the page's own script may start beside itself; a page of another folder has its own styles beside it (`audit.css`)
    """
    style, script = ((TEMPLATES / file).read_text(encoding="utf-8") for file in ("style.css", "page.js"))
    if folder:
        style += (folder / name.replace(".html.j2", ".css")).read_text(encoding="utf-8")
    given = {
        "style": Markup(style),
        "script": Markup(script),
        "policy": policy(style, [script, *scripts]),
    }
    return pages.render(name, {**context, **given}, [folder, TEMPLATES] if folder else [TEMPLATES])


def policy(style: str, scripts: Sequence[str]) -> str:
    """The content security policy of a page with this inline style and these scripts, and pictures as `data:` alone."""
    return (
        f"default-src 'none'; img-src data:; style-src {pages.hashed(style)}; script-src {' '.join(map(pages.hashed, scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )


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
