"""The rolling buffer as a picture: which document each id of each block comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from llmpipe.blocks import check_block_size
from llmpipe.kit.figure import BLACK, GREY, HATCHES, PALETTE, CaptionedFigure, new_figure

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
