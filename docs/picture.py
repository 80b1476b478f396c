"""The picture of the README, from the figures of a finished phantom study:

    python docs/picture.py results docs/picture.png

Pictures of people's scores or scans are not committed, so a study without `phantom/study.json` is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH, MAX_BYTES = 1200, 200_000


def picture(results: Path, output: Path) -> None:
    """`findings/figures/results.png` at `WIDTH` pixels in 64 colours, at most `MAX_BYTES`."""
    if not (results / "phantom" / "study.json").is_file():
        sys.exit(f"{results}: expected a phantom study, got none. Run `make demo`.")
    image = Image.open(results / "findings" / "figures" / "results.png").convert("RGB")
    small = image.resize((WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.LANCZOS)
    small.quantize(64, dither=Image.Dither.NONE).save(output, optimize=True)
    if output.stat().st_size > MAX_BYTES:
        sys.exit(f"{output}: expected at most {MAX_BYTES} bytes, got {output.stat().st_size}.")


if __name__ == "__main__":
    picture(*map(Path, sys.argv[1:]))
