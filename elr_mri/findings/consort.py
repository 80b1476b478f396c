"""The flow diagram of the report, in the form of the CONSORT statement: a column per cohort, from images to splits.

What leaves the flow stands in a box at the side, reason by reason. The numbers are those of `accounting.flow`;
here they are only drawn. Lengths are in inches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath

from elr_mri.findings import style
from elr_mri.findings.accounting import Box
from elr_mri.scans.table import PARTS

#: Cohorts beside each other; more go below, so that the words stay as large as in the other figures.
PER_ROW = 2
COLUMN, MARGIN, PAD, GAP, SPACE = 4.5, 0.2, 0.09, 0.2, 0.08
#: The main boxes' width, and how far to the right of their middle a side box begins.
MAIN, ASIDE = 2.2, 0.35
HEADING_PT, TITLE_PT, WORDS_PT, LEADING = 11, 8.5, 7.5, 1.35
#: A reason of more lines than this is cut: someone's own words, not ours.
MAX_LINES = 4
WASH = "#f5f7f9"
NOTE = (
    "Each split: subjects / scans, all and by class. A subject whose diagnosis changes between visits (a converter) "
    "counts in each of its classes, so the classes can add up to more subjects than all."
)


@dataclass(frozen=True)
class Block:
    """A box with its words broken into lines: `rows` of (number, words); `indent` is where the words begin."""

    box: Box
    width: float
    title: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    indent: float

    @property
    def height(self) -> float:
        return 2 * PAD + len(self.title) * _leading(TITLE_PT) + len(self.rows) * _leading(WORDS_PT)


def draw(flow: Mapping[str, Sequence[Box]]) -> Figure:
    """The flow of every cohort; make it inside `style.drawing()`.

    Parameters
    ----------
    flow : cohort -> its boxes, as from `accounting.flow`
    """
    columns = {cohort: [_block(box, _width(box, boxes)) for box in boxes] for cohort, boxes in flow.items()}
    names = list(columns)
    rows = [names[start : start + PER_ROW] for start in range(0, len(names), PER_ROW)]
    width = min(PER_ROW, len(columns)) * (COLUMN + MARGIN) + MARGIN
    note = (
        _broken(NOTE, width - 2 * MARGIN, WORDS_PT) if any(b.stage in PARTS for f in flow.values() for b in f) else []
    )
    heads = [max(len(_heading(cohort)) for cohort in row) * _leading(HEADING_PT) + PAD for row in rows]
    tops = [_levels([columns[cohort] for cohort in row]) for row in rows]
    height = sum(heads) + sum(levels["end"] for levels in tops) + len(rows) * MARGIN + len(note) * _leading(WORDS_PT)
    drawn = style.figure(width, height + MARGIN)
    drawn.set_layout_engine("none")  # everything is placed in inches
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height + MARGIN, 0))
    axes.set_axis_off()
    y = MARGIN
    for row, head, levels in zip(rows, heads, tops, strict=True):
        for place, cohort in enumerate(row):
            x = MARGIN + place * (COLUMN + MARGIN)
            _write(axes, x, y, _heading(cohort), HEADING_PT, weight="bold")
            _draw_column(axes, columns[cohort], x, y + head, levels)
        y += head + levels["end"] + MARGIN
    _write(axes, MARGIN, y - MARGIN / 2, note, WORDS_PT, color=style.QUIET)
    return drawn


def _draw_column(axes: Axes, blocks: Sequence[Block], x: float, y: float, levels: Mapping[str, float]) -> None:
    """One cohort's boxes and arrows, its upper left corner at (x, y)."""
    middle, above = x + MAIN / 2, None
    splits = [block for block in blocks if block.box.stage in PARTS]
    for block in blocks:
        top = y + levels[_level(block.box)]
        if block.box.side:
            _arrow(axes, (middle, top + block.height / 2), (middle + ASIDE, top + block.height / 2))
            _draw_block(axes, block, middle + ASIDE, top)
        elif block not in splits:
            if above is not None:
                _arrow(axes, (middle, above), (middle, top))
            _draw_block(axes, block, x, top)
            above = top + block.height
    if not splits:
        return
    top, centres = y + levels["splits"], []
    for place, block in enumerate(splits):
        left = x + place * (COLUMN + PAD) / len(splits) if len(splits) > 1 else x
        centres.append(left + block.width / 2)
        _draw_block(axes, block, left, top)
        _arrow(axes, (centres[-1], top - GAP), (centres[-1], top))
    look = {"color": style.QUIET, "linewidth": 0.9, "solid_capstyle": "butt"}
    axes.plot([middle, middle], [above, top - GAP], **look)
    axes.plot([min(*centres, middle), max(*centres, middle)], [top - GAP, top - GAP], **look)


def _draw_block(axes: Axes, block: Block, x: float, y: float) -> None:
    """One box with its words."""
    colour = "white" if block.box.side else WASH
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            block.width,
            block.height,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=colour,
            edgecolor=style.QUIET,
            linewidth=0.8,
            linestyle=(0, (3, 2)) if block.box.side else "-",
            gid=f"box-{block.box.stage}",
        )
    )
    _write(axes, x + PAD, y + PAD, block.title, TITLE_PT, weight="bold")
    below = y + PAD + len(block.title) * _leading(TITLE_PT)
    numbers, right = [number for number, _ in block.rows], block.box.side  # counts end, names of classes begin alike
    _write(axes, x + PAD + right * (block.indent - SPACE), below, numbers, WORDS_PT, ha="right" if right else "left")
    _write(axes, x + PAD + block.indent, below, [words for _, words in block.rows], WORDS_PT)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": style.QUIET, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=look | {"mutation_scale": 8})


def _write(axes: Axes, x: float, y: float, lines: Sequence[str], size: float, *, ha: str = "left", **look: str) -> None:
    """Lines under each other, from their upper corner at the left (or `ha`)."""
    for place, line in enumerate(lines):
        baseline = y + (place + 0.78) * _leading(size)
        axes.text(x, baseline, line, fontsize=size, va="baseline", ha=ha, **look)


def _levels(columns: Sequence[Sequence[Block]]) -> dict[str, float]:
    """Where each level of the cohorts of one row begins, below the row's top, and where the last one ends."""
    heights: dict[str, float] = {}
    for level, height in ((_level(block.box), block.height) for column in columns for block in column):
        heights[level] = max(height, heights.get(level, 0.0))
    order = [level for level in ("found", "excluded", "kept", "failed", "packed", "splits") if level in heights]
    tops, y = {}, 0.0
    for level in order:
        y += GAP if level == "splits" else 0
        tops[level] = y
        y += heights[level] + GAP
    return tops | {"end": y}


def _level(box: Box) -> str:
    return "splits" if box.stage in PARTS else box.stage


def _width(box: Box, boxes: Sequence[Box]) -> float:
    """How wide a box is: splits share their cohort's column."""
    n_splits = sum(other.stage in PARTS for other in boxes)
    if box.stage in PARTS and n_splits > 1:
        return (COLUMN + PAD) / n_splits - PAD
    return COLUMN - MAIN / 2 - ASIDE if box.side else MAIN


def _block(box: Box, width: float) -> Block:
    """Break a box's words into lines that fit its width."""
    title = box.title if box.stage in PARTS else f"{box.title}: {box.n_images:,}"
    indent = max((_inches(number, WORDS_PT) for number, _ in box.lines if number), default=0.0)
    indent += SPACE if indent else 0.0
    rows = []
    for number, words in box.lines:
        broken = _broken(words, width - 2 * PAD - indent, WORDS_PT)
        if len(broken) > MAX_LINES:
            broken = [*broken[: MAX_LINES - 1], "…"]
        rows += [(number if place == 0 else "", line) for place, line in enumerate(broken)]
    return Block(box, width, tuple(_broken(title, width - 2 * PAD, TITLE_PT, "bold")), tuple(rows), indent)


def _heading(cohort: str) -> list[str]:
    return _broken(cohort, COLUMN, HEADING_PT, "bold")


def _broken(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Text as lines of at most `width`; a word that is longer than a line is cut into pieces."""
    lines = [""]
    for word in text.split():
        if lines[-1] and _inches(f"{lines[-1]} {word}", size, weight) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for letter in word[:500]:
            if lines[-1] and _inches(lines[-1] + letter, size, weight) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _leading(size: float) -> float:
    return size * LEADING / 72


@lru_cache(maxsize=4096)
def _inches(text: str, size: float, weight: str = "normal") -> float:
    """The width of a line as it will be drawn."""
    return TextPath((0, 0), f"|{text}|", size, FontProperties(weight=weight)).get_extents().width / 72 - 0.01
