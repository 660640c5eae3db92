"""What several ranks or workers read, made and gained, drawn, and when each of them did what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from llmpipe.arguments import check_count, check_number
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
from llmpipe.classroom.plots.figure import (
    NOT_SCALED,
    CaptionedFigure,
    bar_panels,
    fill_steps,
    legend_above,
    lying_bars,
    name_ranks,
    new_figure,
    whole_numbers,
)
from llmpipe.classroom.plots.words import (
    check_ratios,
    extremes,
    listed,
    percent,
    plural,
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
    check_count("num_bins", num_bins, 1)
    is_table = times_read.ndim == 2 and times_read.size and times_read.dtype.kind in "iub"
    if not is_table or times_read.min() < 0:
        least = f", the least {times_read.min()}" if is_table else ""
        raise ValueError(
            f"times_read must be counts of shape (num_documents, world_size), at least (1, 1), "
            f"got {times_read.dtype} of shape {times_read.shape}{least}"
        )
    num_documents, world_size = times_read.shape
    together = times_read.sum(axis=1, dtype=int)
    is_missing, is_duplicated = together == 0, together > 1
    num_missing, num_duplicated = int(is_missing.sum()), int(is_duplicated.sum())
    # Whole rounds of the ranks a column: else documents that go round the ranks would look uneven.
    width = -(-num_documents // num_bins)
    width = width if width == 1 else -(-width // world_size) * world_size
    starts = np.arange(0, num_documents, width)
    edges = np.append(starts, num_documents) - 0.5
    shares = np.add.reduceat(times_read > 0, starts, dtype=int) / np.diff(edges)[:, None]
    missing, duplicated = (np.logical_or.reduceat(w, starts) for w in (is_missing, is_duplicated))
    title = f"Each of {num_documents:,} documents is read exactly once"
    if num_missing or num_duplicated:
        title = f"Of {num_documents:,} documents: {num_missing:,} missing, {num_duplicated:,} "
        title += "read more than once"
    figure, (axes,) = new_figure(title, size=(8, 2.3 + 0.3 * min(max(world_size, 2), 32)))
    lines = {"edgecolors": "0.9", "linewidth": 0.5} if len(starts) <= 60 else {}
    rows = np.arange(world_size + 1) - 0.5
    darkest = shares.max() or 1.0
    axes.pcolormesh(edges, rows, shares.T, cmap=SHADES, vmin=0, vmax=darkest, **lines)
    shade = "by this rank" if width == 1 else f"by this rank: {percent(darkest)} of a column"
    handles = [Patch(facecolor=BLUE, label=shade)]
    floor = np.full(len(starts), world_size + 0.35)
    for label, which, colour, hatch in (
        ("by all: once", ~(missing | duplicated), GREEN, ".."),
        ("missing", missing, VERMILION, ""),
        ("more than once", duplicated, ORANGE, "//"),
    ):
        ceiling = floor - np.where(missing & duplicated, 0.35, 0.7) * which  # both share a column
        fill_steps(axes, ceiling, edges, floor, colour, hatch)
        handles.append(Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=label))
        floor = ceiling
    name_ranks(axes, world_size, "all ranks")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(world_size + 0.4, -0.5))
    axes.set_xlabel("document" if width == 1 else f"document (a column is {width:,} of them)")
    whole_numbers(axes.xaxis)
    legend_above(axes, handles)
    by_rank = (times_read > 0).sum(axis=0)
    least, most = by_rank.min(), by_rank.max()
    own = f"each rank reads {most:,}" if least == most else f"a rank reads {least:,} to {most:,}"
    figure.caption = (
        f"{num_documents:,} documents, {plural(world_size, 'rank')}: "
        f"{num_documents - num_missing - num_duplicated:,} read exactly once, {num_missing:,} "
        f"missing{_first(is_missing)}, {num_duplicated:,} read more than once"
        f"{_first(is_duplicated)}; {own} of them"
    )
    return figure


def _first(which: np.ndarray, most: int = 5) -> str:
    """The first documents of those that are `which`, in brackets; nothing where there are none."""
    found = np.flatnonzero(which)
    more = ", ..." if len(found) > most else ""
    return f" ({', '.join(map(str, found[:most]))}{more})" if len(found) else ""


def rank_bars(
    rows: Sequence[int], ids: Sequence[int], tokens_per_s: Sequence[float]
) -> CaptionedFigure:
    """How much each rank read, made and did a second; the title says how even the ids are."""
    same_length(rows=rows, ids=ids, tokens_per_s=tokens_per_s)
    ranks, mean = plural(len(ids), "rank"), sum(ids) / len(ids)
    title = f"{ranks}: {short(ids[0])} ids each"
    if min(ids) < max(ids):
        below, above = 1 - min(ids) / mean, max(ids) / mean - 1
        title = f"Ids of {ranks}: {below:.2%} below to {above:.2%} above their mean"
    rates = [rate / 1e6 for rate in tokens_per_s]
    panels = {
        unit: ({f"rank {rank}": value for rank, value in enumerate(values)}, short)
        for unit, values in {"rows": rows, "ids": ids, "M tokens/s": rates}.items()
    }
    height = 1.5 + 0.3 * max(len(ids), 2)
    figure = bar_panels(title, panels, height, colours=[BLUE], hatches=[""])
    figure.caption = "; ".join(
        f"rank {rank}: {rows[rank]:,} rows, {ids[rank]:,} ids, {short(rate)} M tokens/s"
        for rank, rate in enumerate(rates)
    )
    return figure


def read_amplification(bytes_read: Mapping[str, int], split_bytes: int) -> CaptionedFigure:
    """How many times the split is read by each way to divide it; `bytes_read` by all ranks.

    Raises ValueError for no way, and for a split of less than one byte.
    """
    same_length(bytes_read=bytes_read)
    check_count("split_bytes", split_bytes, 1)
    least, most = extremes(bytes_read)
    times = {way: f"{read / split_bytes:,.2f}" for way, read in bytes_read.items()}
    title = f"{most}: {times[most]} times the split"
    if bytes_read[least] < bytes_read[most]:
        title += f"; {least}: {times[least]} times"
    figure, (axes,) = new_figure(title, size=(8, 1.7 + 0.5 * len(bytes_read)))
    megabytes = {way: read / 1e6 for way, read in bytes_read.items()}
    split = split_bytes / 1e6

    def words(value: float) -> str:
        return f"{short(value)} MB, {value / split:,.2f} times the split"

    lying_bars(axes, megabytes, words)
    axes.set_xlim(right=max(axes.get_xlim()[1], split * 1.05))
    for text in axes.texts:  # the line may pass behind
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0})
    label = f"the split, once: {short(split)} MB"
    axes.axvline(split, color=BLACK, linestyle="--", label=label)
    axes.set_xlabel("read by all ranks together (MB)")
    axes.xaxis.set_major_formatter(NOT_SCALED)
    legend_above(axes)
    by_way = listed(megabytes, words, "; ")
    figure.caption = f"read by all ranks, of a split of {short(split)} MB: {by_way}"
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
    most, on_cores = max(num_ranks), plural(cores, "core")
    times = f"{speed_ups[most]:.2f} times one rank's throughput"
    figure, (axes,) = new_figure(f"{plural(most, 'rank')} on {on_cores}: {times}", grid="y")
    every = np.linspace(1, max(most, 2), 200)
    axes.plot(every, every, color=GREY, linestyle="--", label="ideal: n ranks, n times")
    axes.plot(list(speed_ups), list(speed_ups.values()), color=BLUE, marker="o", label="measured")
    highest = [*speed_ups.values(), min(cores, most)]
    said = f"speed-up over one rank: {listed(speed_ups, '{:.2f}'.format)}; {on_cores}"
    if serial_share is not None:
        laws = [speed_up(serial_share, number, cores) for number in every]
        label = f"Amdahl's law, {serial_share:.1%} serial"
        axes.plot(every, laws, color=GREEN, linestyle=":", linewidth=2, label=label)
        at_most = speed_up(serial_share, most, cores)
        said += f"; {label}: {at_most:.2f} with {plural(most, 'rank')}"
    if predicted is not None:
        look = {"marker": "s", "markersize": 9, "markerfacecolor": "none", "linestyle": "none"}
        axes.plot(num_ranks, predicted, color=VERMILION, label="predicted", **look)
        highest += predicted
        said += f"; predicted: {listed(sorted(zip(num_ranks, predicted, strict=True)))}"
    if cores <= most:
        axes.axvline(cores, color=BLACK, linestyle="-.", linewidth=1, label=on_cores)
    # The ideal may leave the picture: on two cores, nine ranks would flatten all the rest.
    axes.set(xlabel="ranks", ylabel="speed-up (times one rank)", ylim=(0, max(highest) * 1.15))
    axes.set_xlim(0.8, max(most, 2) + 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    legend_above(axes)
    figure.caption = said
    return figure


def label_shares(
    shares: Mapping[str, Sequence[float]], overall: float | None = None
) -> CaptionedFigure:
    """The share of positive labels that each worker sees, a panel for each way to divide the data.

    `shares` maps a strategy to a share in [0, 1] a worker; a worker with 0 or 1 sees one class
    only. `overall` is the share in the whole data, by default the mean of all the workers'.

    Raises ValueError for no strategy, for one without workers, and for a share not in [0, 1].
    """
    same_length(shares=shares)
    for strategy, of_workers in shares.items():
        same_length(**{strategy: of_workers})
        check_ratios(strategy, of_workers)
    if overall is None:
        overall = float(np.mean(np.concatenate([list(each) for each in shares.values()])))
    check_number("overall", overall, 0, 1)
    num_one = {way: sum(share in (0, 1) for share in each) for way, each in shares.items()}
    one_class = {way: f"{num_one[way]} of {len(each)}" for way, each in shares.items()}
    _, worst = extremes({way: num_one[way] / len(each) for way, each in shares.items()})
    title = "Every worker sees both classes"
    if num_one[worst]:
        title = f"{worst}: {one_class[worst]} workers see one class only"
    highest = max(len(each) for each in shares.values())
    size = (8, 2.1 + 0.3 * max(highest, 2))
    figure, panels = new_figure(title, [1] * len(shares), size)
    inches = 6.6 / len(shares) - 0.3
    for axes, (strategy, of_workers) in zip(panels, shares.items(), strict=True):
        workers = range(len(of_workers))
        positive = np.asarray(of_workers, dtype=float)
        look = {"color": BLUE, "hatch": "", "edgecolor": "white", "label": "positive"}
        axes.barh(workers, positive, **look)
        look = {"color": ORANGE, "hatch": "//", "edgecolor": "white", "label": "negative"}
        axes.barh(workers, 1 - positive, left=positive, **look)
        label = f"in all: {percent(overall)} positive"
        axes.axvline(overall, color=BLACK, linestyle="--", label=label)
        for worker, share in enumerate(of_workers):
            axes.text(1.04, worker, percent(share), va="center", fontsize=9)
        names = [f"worker {worker}" if axes is panels[0] else "" for worker in workers]
        axes.set_yticks(workers, names, fontsize=10)
        axes.set_xticks([0, 1], ["0%", "100%"])
        axes.set(ylim=(highest - 0.4, -0.6), xlim=(0, inches / (inches - 0.5)))
        axes.set_xlabel(f"{strategy}:\none class: {one_class[strategy]}")
    legend_above(panels[0])
    by_worker = listed(shares, lambda each: ", ".join(map(percent, each)), "; ")
    figure.caption = f"share of positives by worker: {by_worker}; in all {percent(overall)}"
    return figure


NUM_COLUMNS = 700  # of a time line: about one a pixel
MOST_KINDS = len(PALETTE)


def time_line(
    spans: Sequence[tuple[int, str, float, float]], world_size: int | None = None
) -> CaptionedFigure:
    """What each rank's process did when; a span is (rank, what, begin_s, end_s).

    Seconds count from the launch. Where spans are shorter than a pixel, the height of a colour is
    its part of the time there, so that thousands of them draw as fast, and as true, as three.
    `world_size` is by default the highest rank + 1.

    Raises ValueError for no spans, for one that ends before it begins or begins before the launch,
    for two of one rank that overlap, and for a rank that is not in [0, world_size).
    """
    same_length(spans=spans)
    world_size = max(span[0] for span in spans) + 1 if world_size is None else world_size
    by_rank: dict[int, list[tuple[float, float, str]]] = {rank: [] for rank in range(world_size)}
    for rank, what, begin_s, end_s in spans:
        if rank not in by_rank:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
        if not 0 <= begin_s <= end_s:
            raise ValueError(f"{what!r} of rank {rank} goes from {begin_s} s to {end_s} s")
        by_rank[rank].append((begin_s, end_s, what))
    for rank, own in by_rank.items():
        own.sort()
        for (_, end_s, what), (begin_s, _, other) in pairwise(own):
            if begin_s < end_s - 1e-6:  # clocks are rounded
                raise ValueError(
                    f"rank {rank} does {what!r} until {end_s} s, but {other!r} from {begin_s} s"
                )
    kinds = list(dict.fromkeys(what for _, what, _, _ in spans))
    if len(kinds) > MOST_KINDS:
        raise ValueError(f"at most {MOST_KINDS} kinds can be told apart, got {kinds}")
    last_s = max(end_s for *_, end_s in spans)
    totals = {kind: sum(e - b for _, what, b, e in spans if what == kind) for kind in kinds}
    _, most = extremes(totals)
    share = totals[most] / (sum(totals.values()) or 1)
    title = f"{most} takes {share:.0%} of the recorded time of {plural(world_size, 'rank')}"
    figure, (axes,) = new_figure(title, size=(8, 1.9 + 0.32 * min(max(world_size, 2), 32)))
    edges = np.linspace(0, last_s or 1, NUM_COLUMNS + 1)
    for rank, own in by_rank.items():
        floor = np.full(NUM_COLUMNS, rank + 0.4)  # ranks count downwards
        for index, kind in enumerate(kinds):
            ceiling = floor - 0.8 * _busy([(b, e) for b, e, what in own if what == kind], edges)
            label = kind if rank == 0 else None
            fill_steps(axes, ceiling, edges, floor, PALETTE[index], HATCHES[index], label)
            floor = ceiling
    name_ranks(axes, world_size)
    axes.set(xlabel="time since the launch (s)", xlim=(0, edges[-1]))
    axes.set_ylim(world_size - 0.4, -0.6)
    axes.xaxis.set_major_formatter(NOT_SCALED)
    legend_above(axes)
    ends = {rank: own[-1][1] for rank, own in by_rank.items() if own}
    first, last = extremes(ends)
    figure.caption = (
        "seconds of all ranks together: "
        + ", ".join(f"{kind} {short(total)}" for kind, total in totals.items())
        + f"; rank {first} ends first, after {short(ends[first])} s, "
        f"rank {last} last, after {short(ends[last])} s"
    )
    return figure


def _busy(spans: list[tuple[float, float]], edges: np.ndarray) -> np.ndarray:
    """The part of each column between two `edges` that the spans, in order, cover."""
    if not spans:
        return np.zeros(len(edges) - 1)
    times = np.asarray(spans, dtype=float)
    covered = np.cumsum(times[:, 1] - times[:, 0])
    # Seconds covered so far grow from each begin to its end, and stand still between.
    so_far = np.stack([np.append(0, covered[:-1]), covered], axis=1)
    return np.diff(np.interp(edges, times.ravel(), so_far.ravel())) / np.diff(edges)
