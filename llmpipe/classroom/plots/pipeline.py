"""The picture at the head of every lab: the way from document to batch, this lab's part lit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, groupby, pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import EngFormatter

from llmpipe.arguments import check_block_size
from llmpipe.classroom.plots.figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    HATCHES,
    ORANGE,
    PALETTE,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    new_figure,
)
from llmpipe.ledger import Entry, Ledger


def ledger_waterfall(ledger: Ledger) -> CaptionedFigure:
    """Documents and ids from stage to stage: what came in, was added, dropped, left over, went out.

    One panel a unit of the ledger, drawn from above to below; counts of 0 are left out.
    """
    units: dict[str, list[tuple[str, str, int, int]]] = {}
    for entry in ledger:
        steps = _steps(entry, first=entry.unit not in units)
        units[entry.unit] = units.get(entry.unit, []) + steps
    if not units:
        raise ValueError("the ledger has no entries to draw")
    heights = [len(steps) + 1.5 for steps in units.values()]
    size = (8, max(4.0, 0.9 + 0.3 * sum(heights)))
    figure, panels = new_figure("Nothing goes missing: the ledger", heights, size, across=False)
    styles = {
        "total": (BLUE, ""),
        "added": (GREEN, ".."),
        "dropped": (VERMILION, "//"),
        "remainder": (ORANGE, "xx"),
    }
    for axes, (unit, steps) in zip(panels, units.items(), strict=True):
        most = max(max(start, end) for _, _, start, end in steps) or 1
        for row, (_, kind, start, end) in enumerate(steps):
            colour, hatch = styles[kind]
            left, width = min(start, end), abs(end - start)
            axes.barh(row, width, left=left, color=colour, hatch=hatch, edgecolor="white")
            if kind != "total":  # a line too: a bar of 54 in two million would not be seen
                axes.plot([end, end], [row - 0.4, row + 0.4], color=colour, linewidth=1.5)
            sign = {"total": "", "added": "+"}.get(kind, "\N{MINUS SIGN}")
            axes.text(max(start, end) + most / 80, row, f"{sign}{width:,}", va="center", size=9)
        axes.set_yticks(range(len(steps)), [label for label, *_ in steps], fontsize=9)
        axes.set(xlabel=unit, xlim=(0, most * 1.16), ylim=(len(steps) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if most >= 1e6 else WITH_COMMAS)
    figure.caption = str(ledger)
    return figure


def _steps(entry: Entry, first: bool) -> list[tuple[str, str, int, int]]:
    """The bars of one entry as (label, kind, start, end); a bar of kind total starts at 0."""
    steps, level = [], entry.num_in
    if first and entry.num_in:
        steps.append((f"into {entry.stage}", "total", 0, level))
    for reason, count in entry.added.items():
        steps.append((f"{entry.stage}: {reason}", "added", level, level + count))
        level += count
    losses = [(reason, "dropped", count) for reason, count in entry.dropped.items()]
    for reason, kind, count in [*losses, ("remainder", "remainder", entry.remainder)]:
        steps.append((f"{entry.stage}: {reason}", kind, level, level - count))
        level -= count
    steps = [step for step in steps if step[2] != step[3]]
    return [*steps, (f"out of {entry.stage}", "total", 0, level)]


MOST_IDS, MOST_PLACES = 200, 20  # of a picture in which every id can still be read
GROUND = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}


def block_origins(lengths: Sequence[int], block_size: int) -> CaptionedFigure:
    """Blocks of the ids 0, 1, 2, ... that documents of these lengths hold, one after another.

    A document d0, d1, ... of no ids is nowhere in the picture. The remainder, which waits in the
    rolling buffer for more ids, is a row of its own.

    >>> print(block_origins([3, 2], block_size=4).caption)
    5 ids of 2 documents; block 0: 0-2 of d0, 3 of d1; remainder: 4 of d1

    Raises ValueError if a length is negative, if there is no id, or if there are more than 200 of
    them or 20 in a block.
    """
    check_block_size(block_size)
    lengths = list(lengths)
    if not lengths or min(lengths) < 0:
        raise ValueError(f"lengths must be one or more numbers of ids, from 0, got {lengths}")
    origins = np.repeat(np.arange(len(lengths)), lengths).tolist()
    if not 1 <= len(origins) <= MOST_IDS or block_size > MOST_PLACES:
        raise ValueError(
            f"can draw 1 to {MOST_IDS} ids in blocks of up to {MOST_PLACES}, got {len(origins)} "
            f"ids and block_size {block_size}"
        )
    starts = range(0, len(origins), block_size)
    rows = [list(enumerate(origins))[start : start + block_size] for start in starts]
    num_blocks = len(origins) // block_size
    names = [f"block {index}" for index in range(num_blocks)] + ["remainder"]
    height = 1.2 + 0.7 * len(rows)
    figure, (axes,) = new_figure(_title(rows[:num_blocks], len(origins)), size=(8, height))
    size = 11 if block_size <= 10 else 9
    # Those that follow each other must differ, so documents without ids take no colour.
    looks = dict(zip(dict.fromkeys(origins), cycle(zip(PALETTE, HATCHES, strict=True))))
    for index, row in enumerate(rows):
        for place, (number, document) in enumerate(row):
            _fill(axes, place, index, *looks[document])
            words = f"{number}\nd{document}"
            axes.text(place, index, words, ha="center", va="center", size=size, bbox=GROUND)
        for place in range(block_size):
            if index == num_blocks:
                _outline(axes, place, index, BLACK if place < len(row) else GREY)
    axes.set_yticks(range(len(rows)), names[: len(rows)], fontsize=10)
    axes.set_xticks(range(block_size))
    axes.set(xlim=(-0.5, block_size - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("place in the block (in each cell: the id, and the document it comes from)")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    said = [f"{name}: {_spans(row)}" for name, row in zip(names, rows, strict=False)]
    figure.caption = f"{len(origins)} ids of {len(lengths)} documents; " + "; ".join(said)
    if len(rows) == num_blocks:
        figure.caption += "; no remainder"
    return figure


def _title(blocks: list[list[tuple[int, int]]], num_ids: int) -> str:
    if not blocks:
        return f"No block is full: {num_ids} ids wait for more"
    most = max(len({document for _, document in block}) for block in blocks)
    return f"A block takes ids from up to {most} documents" if most > 1 else "One document a block"


def _fill(axes: Axes, place: int, row: int, colour: str, hatch: str) -> None:
    cell = Rectangle((place - 0.47, row - 0.42), 0.94, 0.84)
    cell.set(facecolor=colour, edgecolor="white", hatch=hatch)
    axes.add_patch(cell)


def _outline(axes: Axes, place: int, row: int, colour: str) -> None:
    across = place + 0.47 * np.array([-1, 1, 1, -1, -1])
    down = row + 0.42 * np.array([-1, -1, 1, 1, -1])
    axes.plot(across, down, color=colour, linestyle="--", linewidth=1.2)


def _spans(row: list[tuple[int, int]]) -> str:
    spans = []
    for document, cells in groupby(row, key=lambda cell: cell[1]):
        numbers = [number for number, _ in cells]
        ends = dict.fromkeys((numbers[0], numbers[-1]))
        spans.append(f"{'-'.join(map(str, ends))} of d{document}")
    return ", ".join(spans)


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
