"""The way from document to batch, drawn: its map, what is counted on it, and where ids end up.

`pipeline_map` stands at the head of every lab, `ledger_waterfall` shows what came in, was added,
dropped and left over at each stage, and `block_origins` which document each id of a block is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, groupby, pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import EngFormatter

from llmpipe.arguments import check_count
from llmpipe.classroom.plots.colours import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    HATCHES,
    ORANGE,
    PALETTE,
    VERMILION,
)
from llmpipe.classroom.plots.figure import WITH_COMMAS, CaptionedFigure, new_figure
from llmpipe.ledger import Entry, Ledger

CENTRED = {"ha": "center", "va": "center"}

# Each part of the map, its box (left, bottom, width, height in inches of 8 x 4) and its words.
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
LABELS = {
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
    for stage, words, x in zip(STAGES, WORDS, CENTRES, strict=True):
        GLYPHS[stage](axes, x, BLUE if stage in lit else GREY)
        look = {"weight": "bold", "color": BLACK} if stage in lit else {"color": GREY}
        axes.text(x, 1.5, words, fontsize=10, **CENTRED, **look)
    for left, right in pairwise(CENTRES):
        _arrow(axes, (left + 0.6, 3.21), (right - 0.6, 3.21))
    for x in (0.85, 3.0, 5.55, 7.15):  # to documents, documents kept, blocks, batch
        _arrow(axes, (x, 1.22), (x, 1.38))
    key = "filled: in this lab     dashed: in the others"
    axes.text(7.7, 3.58, key, ha="right", va="bottom", fontsize=9, color=GREY)
    # Labelled documents are not cut into blocks: each stays a row of its own.
    is_row = "pad" in lit and not {"chunk", "buffer"} & lit
    unit = "row padded to T ids" if is_row else "block (T ids)"
    named = ", ".join(part for part in PARTS if part in lit)
    figure.caption = (
        f"The way: document -> token ids -> {unit} -> batch of shape (B, T).\n"
        f"In this lab: {named or 'none of the parts'}."
    )
    return figure


def _box(axes: Axes, part: str, is_lit: bool) -> None:
    left, bottom, width, height = BOXES[part]
    box = FancyBboxPatch((left, bottom), width, height, "round,pad=0,rounding_size=0.1")
    colour = BLUE if is_lit else GREY
    box.set(
        facecolor=BLUE if is_lit else "white", edgecolor=colour, linestyle="-" if is_lit else "--"
    )
    axes.add_patch(box)
    look = {"weight": "bold", "color": "white"} if is_lit else {"color": GREY}
    middle = (left + width / 2, bottom + height / 2 - 0.01)
    size = 11 if part in STAGES else 10
    axes.text(*middle, LABELS.get(part, part), fontsize=size, **CENTRED, **look)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=BLACK, linewidth=1.2, **style))


def _documents(axes: Axes, x: float, colour: str) -> None:
    for place, num_lines in enumerate((4, 0, 3)):  # the one without lines is blank
        left = x - 0.57 + 0.42 * place
        axes.add_patch(Rectangle((left, 1.9), 0.3, 0.7, facecolor="white", edgecolor=colour))
        for line in range(num_lines):
            axes.plot([left + 0.06, left + 0.24], [2.48 - 0.14 * line] * 2, color=colour)


def _kept(axes: Axes, x: float, colour: str) -> None:
    _documents(axes, x, colour)
    for ends in ((1.86, 2.64), (2.64, 1.86)):
        axes.plot([x - 0.2, x + 0.2], ends, color=BLACK, linewidth=2)


def _ids(axes: Axes, x: float, colour: str) -> None:
    for row, ids in enumerate(("15496  995  11", "383  3797  3332", "319  262  2603")):
        axes.text(x, 2.49 - 0.23 * row, ids, fontsize=10, color=colour, **CENTRED)


def _cells(axes: Axes, x: float, colour: str) -> None:
    for row, column in np.ndindex(3, 4):
        corner = (x - 0.32 + 0.16 * column, 2.0 + 0.2 * row)
        axes.add_patch(Rectangle(corner, 0.16, 0.16, facecolor="white", edgecolor=colour))


def _blocks(axes: Axes, x: float, colour: str) -> None:
    _cells(axes, x, colour)
    axes.text(x, 1.83, "+ remainder", fontsize=9, color=colour, **CENTRED)


def _batch(axes: Axes, x: float, colour: str) -> None:
    _cells(axes, x, colour)
    axes.text(x - 0.45, 2.28, "B", fontsize=11, color=colour, **CENTRED)
    axes.text(x, 2.7, "T", fontsize=11, color=colour, **CENTRED)


GLYPHS = dict(zip(STAGES, (_documents, _kept, _ids, _blocks, _batch), strict=True))

# Of each kind of bar in the waterfall: colour, hatch, and the sign before its number.
KINDS = {
    "total": (BLUE, "", ""),
    "added": (GREEN, "..", "+"),
    "dropped": (VERMILION, "//", "\N{MINUS SIGN}"),
    "remainder": (ORANGE, "xx", "\N{MINUS SIGN}"),
}


def ledger_waterfall(ledger: Ledger) -> CaptionedFigure:
    """Documents and ids from stage to stage: what came in, was added, dropped, left over, went out.

    One panel a unit of the ledger, drawn from above to below; counts of 0 are left out.
    """
    units: dict[str, list[tuple[str, str, int, int]]] = {}
    for entry in ledger:
        units[entry.unit] = units.get(entry.unit, []) + _steps(entry, entry.unit not in units)
    if not units:
        raise ValueError("the ledger has no entries to draw")
    heights = [len(steps) + 1.5 for steps in units.values()]
    size = (8, max(4.0, 0.9 + 0.3 * sum(heights)))
    figure, panels = new_figure("Nothing goes missing: the ledger", heights, size, across=False)
    for axes, (unit, steps) in zip(panels, units.items(), strict=True):
        most = max(max(start, end) for _, _, start, end in steps) or 1
        for row, (_, kind, start, end) in enumerate(steps):
            colour, hatch, sign = KINDS[kind]
            left, width = min(start, end), abs(end - start)
            axes.barh(row, width, left=left, color=colour, hatch=hatch, edgecolor="white")
            if kind != "total":  # a line too: a bar of 54 in two million would not be seen
                axes.plot([end, end], [row - 0.4, row + 0.4], color=colour, linewidth=1.5)
            axes.text(max(start, end) + most / 80, row, f"{sign}{width:,}", va="center", size=9)
        axes.set_yticks(range(len(steps)), [label for label, *_ in steps], fontsize=9)
        axes.set(xlabel=unit, xlim=(0, most * 1.16), ylim=(len(steps) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if most >= 1e6 else WITH_COMMAS)
    figure.caption = str(ledger)
    return figure


def _steps(entry: Entry, first: bool) -> list[tuple[str, str, int, int]]:
    """The bars of one entry as (label, kind, start, end); a bar of kind total starts at 0."""
    changes = [
        *((reason, "added", count) for reason, count in entry.added.items()),
        *((reason, "dropped", -count) for reason, count in entry.dropped.items()),
        ("remainder", "remainder", -entry.remainder),
    ]
    level = entry.num_in
    steps = [(f"into {entry.stage}", "total", 0, level)] if first and level else []
    for reason, kind, change in changes:
        if change:
            steps.append((f"{entry.stage}: {reason}", kind, level, level + change))
        level += change
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
    check_count("block_size", block_size, 1)
    lengths = list(lengths)
    if not lengths or min(lengths) < 0:
        raise ValueError(f"lengths must be one or more numbers of ids, from 0, got {lengths}")
    origins = np.repeat(np.arange(len(lengths)), lengths).tolist()
    if not 1 <= len(origins) <= MOST_IDS or block_size > MOST_PLACES:
        raise ValueError(
            f"can draw 1 to {MOST_IDS} ids in blocks of up to {MOST_PLACES}, got {len(origins)} "
            f"ids and block_size {block_size}"
        )
    cells = list(enumerate(origins))
    rows = [cells[start : start + block_size] for start in range(0, len(cells), block_size)]
    num_blocks = len(cells) // block_size
    names = [f"block {index}" for index in range(num_blocks)] + ["remainder"]
    size = (8, 1.2 + 0.7 * len(rows))
    figure, (axes,) = new_figure(_title(rows[:num_blocks], len(cells)), size=size)
    # Those that follow each other must differ, so documents without ids take no colour.
    looks = dict(zip(dict.fromkeys(origins), cycle(zip(PALETTE, HATCHES, strict=True))))
    for number, document in cells:
        row, place = divmod(number, block_size)
        cell = Rectangle((place - 0.47, row - 0.42), 0.94, 0.84)
        cell.set(facecolor=looks[document][0], edgecolor="white", hatch=looks[document][1])
        axes.add_patch(cell)
        letters = 11 if block_size <= 10 else 9
        axes.text(place, row, f"{number}\nd{document}", size=letters, bbox=GROUND, **CENTRED)
    for place in range(block_size) if len(rows) > num_blocks else ():
        across = place + 0.47 * np.array([-1, 1, 1, -1, -1])
        down = num_blocks + 0.42 * np.array([-1, -1, 1, 1, -1])
        colour = BLACK if place < len(rows[-1]) else GREY
        axes.plot(across, down, color=colour, linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(rows)), names[: len(rows)], fontsize=10)
    axes.set_xticks(range(block_size))
    axes.set(xlim=(-0.5, block_size - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("place in the block (in each cell: the id, and the document it comes from)")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    said = [f"{name}: {_runs(row)}" for name, row in zip(names, rows, strict=False)]
    said += ["no remainder"] if len(rows) == num_blocks else []
    figure.caption = "; ".join([f"{len(cells)} ids of {len(lengths)} documents", *said])
    return figure


def _title(blocks: list[list[tuple[int, int]]], num_ids: int) -> str:
    if not blocks:
        return f"No block is full: {num_ids} ids wait for more"
    most = max(len({document for _, document in block}) for block in blocks)
    return f"A block takes ids from up to {most} documents" if most > 1 else "One document a block"


def _runs(row: list[tuple[int, int]]) -> str:
    """
    >>> _runs([(3, 0), (4, 0), (5, 1)])
    '3-4 of d0, 5 of d1'
    """
    runs = []
    for document, cells in groupby(row, key=lambda cell: cell[1]):
        numbers = [number for number, _ in cells]
        ends = dict.fromkeys((numbers[0], numbers[-1]))
        runs.append(f"{'-'.join(map(str, ends))} of d{document}")
    return ", ".join(runs)
