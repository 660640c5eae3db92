"""Which rank read which documents, drawn: a missing or doubled one jumps to the eye."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from llmpipe.kit.figure import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    legend_above,
    name_ranks,
    new_figure,
    percent,
    ranks,
)

SHADES = LinearSegmentedColormap.from_list("shades", ["white", BLUE])


def coverage_map(times_read: Any, num_bins: int = 100) -> CaptionedFigure:
    """Who read what: `times_read` (num_documents, world_size), how often each rank read each.

    More documents than `num_bins` share columns. The strip below is for all ranks together: a
    column is marked if any of its documents is missing, or was read more than once.

    Raises ValueError unless `times_read` holds counts, of at least one document and one rank.
    """
    times_read = np.asarray(times_read)
    if times_read.ndim != 2 or 0 in times_read.shape or times_read.dtype.kind not in "iub":
        raise ValueError(
            f"times_read must be whole numbers of shape (num_documents, world_size), at least "
            f"(1, 1), got {times_read.dtype} of shape {times_read.shape}"
        )
    if times_read.min() < 0 or num_bins < 1:
        raise ValueError(
            f"needs counts from 0 and a bin or more, got {times_read.min()} and {num_bins}"
        )
    num_documents, world_size = times_read.shape
    together = times_read.sum(axis=1, dtype=int)
    num_once, num_missing, num_doubled = (
        int(which.sum()) for which in (together == 1, together == 0, together > 1)
    )
    # Whole rounds of the ranks a column: else documents dealt in turn would seem unevenly read.
    width = -(-num_documents // num_bins)
    width = width if width == 1 else -(-width // world_size) * world_size
    starts = np.arange(0, num_documents, width)
    edges = np.append(starts, num_documents) - 0.5
    shares = np.add.reduceat(times_read > 0, starts, dtype=int) / np.diff(edges)[:, None]
    missing, doubled = (
        np.logical_or.reduceat(which, starts) for which in (together == 0, together > 1)
    )
    figure, (axes,) = new_figure(
        f"Each of {num_documents:,} documents is read exactly once"
        if num_once == num_documents
        else f"Of {num_documents:,} documents: {num_missing:,} missing, {num_doubled:,} "
        "read more than once",
        size=(8, 2.3 + 0.3 * min(max(world_size, 2), 32)),
    )
    lines = {"edgecolors": "0.9", "linewidth": 0.5} if len(starts) <= 60 else {}
    rows = np.arange(world_size + 1) - 0.5
    most = shares.max() or 1.0
    axes.pcolormesh(edges, rows, shares.T, cmap=SHADES, vmin=0, vmax=most, **lines)
    floor = np.full(len(starts), world_size + 0.35)
    for which, colour, hatch in (
        (~(missing | doubled), GREEN, ".."),
        (missing, VERMILION, ""),
        (doubled, ORANGE, "//"),
    ):
        height = np.where(missing & doubled, 0.35, 0.7) * which  # both share a column
        look = {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
        axes.stairs(floor - height, edges, baseline=floor, fill=True, **look)
        floor = floor - height
    name_ranks(axes, world_size, "all ranks")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(world_size + 0.4, -0.5))
    axes.set_xlabel("document" if width == 1 else f"document (a column is {width:,} of them)")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(WITH_COMMAS)
    shade = "by this rank" if width == 1 else f"by this rank: {percent(most)} of a column"
    handles = [
        Patch(facecolor=BLUE, label=shade),
        Patch(facecolor=GREEN, hatch="..", edgecolor="white", label="by all: once"),
        Patch(facecolor=VERMILION, label="missing"),
        Patch(facecolor=ORANGE, hatch="//", edgecolor="white", label="more than once"),
    ]
    legend_above(axes, handles)
    by_rank = (times_read > 0).sum(axis=0)
    least, most = by_rank.min(), by_rank.max()
    own = f"each rank reads {most:,}" if least == most else f"a rank reads {least:,} to {most:,}"
    figure.caption = (
        f"{num_documents:,} documents, {ranks(world_size)}: {num_once:,} read exactly once, "
        f"{num_missing:,} missing{_first(together == 0)}, {num_doubled:,} read more than once"
        f"{_first(together > 1)}; {own} of them"
    )
    return figure


def _first(which: np.ndarray, most: int = 5) -> str:
    """The first documents of those that are `which`, in brackets; nothing where there are none."""
    found = np.flatnonzero(which)
    more = ", ..." if len(found) > most else ""
    return f" ({', '.join(map(str, found[:most]))}{more})" if len(found) else ""
