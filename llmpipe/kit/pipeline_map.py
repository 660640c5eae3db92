"""The picture at the head of every lab: the way from document to batch, this lab's part lit."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from llmpipe.kit.figure import BLACK, BLUE, GREY, CaptionedFigure, new_figure

# Each part, its box (left, bottom, width, height in inches of an 8 x 4 figure) and its words.
STAGES = ("load", "filter", "tokenize", "chunk", "batch")
WORDS = ("documents", "documents kept", "token ids", "blocks of T ids", "batch (B, T)")
CENTRES = (0.85, 2.4, 3.95, 5.55, 7.15)
BOXES = {stage: (x - 0.55, 3.0, 1.1, 0.42) for stage, x in zip(STAGES, CENTRES, strict=True)}
BOXES |= {
    "shard": (0.3, 0.78, 2.42, 0.42),
    "labels": (2.82, 0.78, 1.32, 0.42),
    "buffer": (4.24, 0.78, 2.4, 0.42),
    "pad": (6.74, 0.78, 0.96, 0.42),
    "ledger": (0.3, 0.13, 7.4, 0.42),
}
LABELS = {stage: stage for stage in STAGES}
LABELS |= {
    "shard": "shard: what one rank reads",
    "labels": "labels: 0 or 1",
    "buffer": "rolling buffer: for a stream",
    "pad": "pad to T",
    "ledger": "ledger, at every stage:  in + added = out + dropped + remainder",
}
PARTS = tuple(BOXES)


def pipeline_map(lit: Iterable[str] = PARTS) -> CaptionedFigure:
    """Draw the way from document to batch, with the parts named in `lit` filled.

    The parts are load, filter, tokenize, chunk, batch, shard, labels, buffer, pad and ledger.

    >>> pipeline_map({"load", "chunk"}).caption.splitlines()[1]
    'In this lab: load, chunk.'

    Raises ValueError for a name that is not one of the parts.
    """
    lit = {lit} if isinstance(lit, str) else set(lit)
    if not lit <= set(PARTS):
        raise ValueError(f"no part {sorted(lit - set(PARTS))}; the parts are {', '.join(PARTS)}")
    figure, (axes,) = new_figure("From document to batch")
    axes.set(xlim=(0, 8), ylim=(0, 3.7))
    axes.axis("off")
    for part in PARTS:
        _box(axes, part, part in lit)
    for stage, word, x in zip(STAGES, WORDS, CENTRES, strict=True):
        colour = BLUE if stage in lit else GREY
        GLYPHS[stage](axes, x, colour)
        weight = "bold" if stage in lit else "normal"
        color = BLACK if stage in lit else GREY
        axes.text(x, 1.5, word, ha="center", va="center", fontsize=10, weight=weight, color=color)
    for left, right in pairwise(CENTRES):
        _arrow(axes, (left + 0.6, 3.21), (right - 0.6, 3.21))
    for x in (0.85, 3.0, 5.55, 7.15):  # to documents, documents kept, blocks, batch
        _arrow(axes, (x, 1.22), (x, 1.38))
    key = "filled: in this lab     dashed: in the others"
    axes.text(7.7, 3.58, key, ha="right", va="bottom", fontsize=9, color=GREY)
    named = [part for part in PARTS if part in lit]
    # Labelled documents are not cut into blocks: each stays a row of its own.
    row = (
        "row padded to T ids" if "pad" in lit and not {"chunk", "buffer"} & lit else "block (T ids)"
    )
    figure.caption = (
        f"The way: document -> token ids -> {row} -> batch of shape (B, T).\n"
        f"In this lab: {', '.join(named) or 'none of the parts'}."
    )
    return figure


def _box(axes: Axes, part: str, is_lit: bool) -> None:
    left, bottom, width, height = BOXES[part]
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=BLUE if is_lit else "white",
            edgecolor=BLUE if is_lit else GREY,
            linestyle="-" if is_lit else "--",
        )
    )
    axes.text(
        left + width / 2,
        bottom + height / 2 - 0.01,
        LABELS[part],
        ha="center",
        va="center",
        fontsize=11 if part in STAGES else 10,
        weight="bold" if is_lit else "normal",
        color="white" if is_lit else GREY,
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=BLACK, linewidth=1.2, **style))


def _page(axes: Axes, left: float, bottom: float, colour: str, lines: int = 4) -> None:
    axes.add_patch(Rectangle((left, bottom), 0.3, 0.7, facecolor="white", edgecolor=colour))
    for line in range(lines):
        y = bottom + 0.58 - 0.14 * line
        axes.plot([left + 0.06, left + 0.24], [y, y], color=colour, linewidth=1.5)


def _cells(axes: Axes, left: float, bottom: float, rows: int, columns: int, colour: str) -> None:
    for row in range(rows):
        for column in range(columns):
            corner = (left + 0.16 * column, bottom + 0.2 * row)
            axes.add_patch(Rectangle(corner, 0.16, 0.16, facecolor="white", edgecolor=colour))


def _documents(axes: Axes, x: float, colour: str) -> None:
    for place, lines in enumerate((4, 0, 3)):  # the one without lines is blank
        _page(axes, x - 0.57 + 0.42 * place, 1.9, colour, lines)


def _kept(axes: Axes, x: float, colour: str) -> None:
    _documents(axes, x, colour)
    for ends in ((1.86, 2.64), (2.64, 1.86)):
        axes.plot([x - 0.2, x + 0.2], ends, color=BLACK, linewidth=2)


def _ids(axes: Axes, x: float, colour: str) -> None:
    for row, ids in enumerate(("15496  995  11", "383  3797  3332", "319  262  2603")):
        axes.text(x, 2.49 - 0.23 * row, ids, ha="center", va="center", fontsize=10, color=colour)


def _blocks(axes: Axes, x: float, colour: str) -> None:
    _cells(axes, x - 0.32, 2.0, 3, 4, colour)
    axes.text(x, 1.83, "+ remainder", ha="center", va="center", fontsize=9, color=colour)


def _batch(axes: Axes, x: float, colour: str) -> None:
    _cells(axes, x - 0.32, 2.0, 3, 4, colour)
    axes.text(x - 0.45, 2.28, "B", ha="center", va="center", fontsize=11, color=colour)
    axes.text(x, 2.7, "T", ha="center", va="center", fontsize=11, color=colour)


GLYPHS = dict(zip(STAGES, (_documents, _kept, _ids, _blocks, _batch), strict=True))
