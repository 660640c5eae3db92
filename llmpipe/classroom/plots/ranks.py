"""What several ranks got, cost and gained, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

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
    legend_above,
    lying_bars,
    name_ranks,
    new_figure,
    percent,
    ranks,
    same_length,
    short,
)
from llmpipe.classroom.statistics import speed_up

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


def rank_bars(
    rows: Sequence[int], ids: Sequence[int], ids_per_s: Sequence[float]
) -> CaptionedFigure:
    """How much each rank read, made and did a second; the title says how even the ids are."""
    same_length(rows=rows, ids=ids, ids_per_s=ids_per_s)
    num_ranks, mean = len(ids), sum(ids) / len(ids)
    title = f"{ranks(num_ranks)}: {short(ids[0])} ids each"
    if min(ids) < max(ids):
        title = (
            f"Ids of {ranks(num_ranks)}: {1 - min(ids) / mean:.2%} below to "
            f"{max(ids) / mean - 1:.2%} above their mean"
        )
    size = (8, 1.5 + 0.3 * max(num_ranks, 2))
    figure, panels = new_figure(title, [1, 1, 1], size)
    rates = [rate / 1e6 for rate in ids_per_s]
    columns = {"rows": rows, "ids": ids, "M ids/s": rates}
    for axes, (unit, values) in zip(panels, columns.items(), strict=True):
        by_rank = {f"rank {rank}": value for rank, value in enumerate(values)}
        lying_bars(axes, by_rank, [BLUE] * num_ranks, [""] * num_ranks, short)
        axes.set_xlabel(unit)
        axes.set_xticks([])  # the value stands at the end of each bar
        axes.spines["bottom"].set_visible(False)
        if axes is not panels[0]:
            axes.set_yticks(range(num_ranks), [""] * num_ranks)  # named at the first panel
    figure.caption = "; ".join(
        f"rank {rank}: {rows[rank]:,} rows, {ids[rank]:,} ids, {short(rates[rank])} M ids/s"
        for rank in range(num_ranks)
    )
    return figure


def read_amplification(bytes_read: Mapping[str, int], split_bytes: int) -> CaptionedFigure:
    """How many times the split each way of dealing it reads; `bytes_read` are those of all ranks.

    Raises ValueError for no way, and for a split of less than one byte.
    """
    same_length(bytes_read=bytes_read)
    if split_bytes < 1:
        raise ValueError(f"split_bytes must be 1 or more, got {split_bytes}")
    most, least = (choose(bytes_read, key=bytes_read.__getitem__) for choose in (max, min))
    times = {way: f"{read / split_bytes:,.2f}" for way, read in bytes_read.items()}
    title = f"{most}: {times[most]} times the split"
    if bytes_read[least] < bytes_read[most]:
        title += f"; {least}: {times[least]} times"
    figure, (axes,) = new_figure(title, size=(8, 1.7 + 0.5 * len(bytes_read)))
    megabytes = {way: read / 1e6 for way, read in bytes_read.items()}
    split = split_bytes / 1e6

    def words(value: float) -> str:
        return f"{short(value)} MB, {value / split:,.2f} times the split"

    colours, hatches = (list(islice(cycle(e), len(megabytes))) for e in (PALETTE, HATCHES))
    lying_bars(axes, megabytes, colours, hatches, words)
    axes.set_xlim(right=max(axes.get_xlim()[1], split * 1.05))
    for text in axes.texts:  # the line may pass behind
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0})
    label = f"the split, once: {short(split)} MB"
    axes.axvline(split, color=BLACK, linestyle="--", label=label)
    axes.set_xlabel("read by all ranks together (MB)")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    legend_above(axes)
    figure.caption = f"read by all ranks, of a split of {short(split)} MB: " + "; ".join(
        f"{way}: {words(value)}" for way, value in megabytes.items()
    )
    return figure


def scaling(
    num_ranks: Sequence[int],
    rates: Sequence[float],
    cores: int,
    serial_share: float | None = None,
    predicted: Sequence[float] | None = None,
) -> CaptionedFigure:
    """Throughput of 1, 2, ... ranks relative to one rank: the speed-up, beside the ideal.

    `rates` are those of all ranks together, and one rank's must be among them. `serial_share`
    draws Amdahl's law for it (`llmpipe.classroom.statistics`); `predicted` are speed-ups, one for
    each of `num_ranks`.
    """
    columns = {} if predicted is None else {"predicted": predicted}
    same_length(num_ranks=num_ranks, rates=rates, **columns)
    if len(set(num_ranks)) < len(num_ranks) or 1 not in num_ranks or min(num_ranks) < 1:
        raise ValueError(f"num_ranks must be different, and 1 among them, got {list(num_ranks)}")
    alone = rates[list(num_ranks).index(1)]
    if not min(rates) >= 0 or alone == 0 or cores < 1:
        raise ValueError(
            f"needs rates of 0 or more, one rank's above 0, and a core or more, got "
            f"{list(rates)} and {cores}"
        )
    speed_ups = dict(sorted(zip(num_ranks, np.divide(rates, alone).tolist(), strict=True)))
    most = max(num_ranks)
    figure, (axes,) = new_figure(
        f"{ranks(most)} on {_cores(cores)}: {speed_ups[most]:.2f} times one rank's throughput"
    )
    every = np.linspace(1, max(most, 2), 200)
    axes.plot(every, every, color=GREY, linestyle="--", label="ideal: n ranks, n times")
    axes.plot(list(speed_ups), list(speed_ups.values()), color=BLUE, marker="o", label="measured")
    highest = [*speed_ups.values(), min(cores, most)]
    said = "speed-up over one rank: " + ", ".join(
        f"{number}: {value:.2f}" for number, value in speed_ups.items()
    )
    said += f"; {_cores(cores)}"
    if serial_share is not None:
        laws = [speed_up(serial_share, number, cores) for number in every]
        label = f"Amdahl's law, {serial_share:.1%} serial"
        axes.plot(every, laws, color=GREEN, linestyle=":", linewidth=2, label=label)
        said += f"; {label}: {speed_up(serial_share, most, cores):.2f} with {ranks(most)}"
    if predicted is not None:
        look = {"marker": "s", "markersize": 9, "markerfacecolor": "none", "linestyle": "none"}
        axes.plot(num_ranks, predicted, color=VERMILION, label="predicted", **look)
        highest += predicted
        pairs = sorted(zip(num_ranks, predicted, strict=True))
        said += "; predicted: " + ", ".join(f"{number}: {short(value)}" for number, value in pairs)
    if cores <= most:
        axes.axvline(cores, color=BLACK, linestyle="-.", linewidth=1, label=_cores(cores))
    # The ideal may leave the picture: on two cores, nine ranks would flatten all the rest.
    axes.set(xlabel="ranks", ylabel="speed-up (times one rank)", ylim=(0, max(highest) * 1.15))
    axes.set_xlim(0.8, max(most, 2) + 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.grid(axis="y", color="0.9")
    legend_above(axes)
    figure.caption = said
    return figure


def _cores(cores: int) -> str:
    return f"{cores} core{'s' if cores > 1 else ''}"
