"""When the process of each rank did what, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from llmpipe.classroom.plots.figure import (
    HATCHES,
    PALETTE,
    CaptionedFigure,
    legend_above,
    name_ranks,
    new_figure,
    ranks,
    same_length,
    short,
)

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
    most = max(totals, key=totals.__getitem__)
    share = totals[most] / (sum(totals.values()) or 1)
    figure, (axes,) = new_figure(
        f"{most} takes {share:.0%} of the recorded time of {ranks(world_size)}",
        size=(8, 1.9 + 0.32 * min(max(world_size, 2), 32)),
    )
    edges = np.linspace(0, last_s or 1, NUM_COLUMNS + 1)
    for rank, own in by_rank.items():
        floor = np.full(NUM_COLUMNS, rank + 0.4)  # ranks count downwards
        for index, kind in enumerate(kinds):
            ceiling = floor - 0.8 * _busy([(b, e) for b, e, what in own if what == kind], edges)
            look = {"facecolor": PALETTE[index], "hatch": HATCHES[index], "linewidth": 0}
            label = kind if rank == 0 else None
            axes.stairs(
                ceiling, edges, baseline=floor, fill=True, edgecolor="white", label=label, **look
            )
            floor = ceiling
    name_ranks(axes, world_size)
    axes.set(xlabel="time since the launch (s)", xlim=(0, edges[-1]))
    axes.set_ylim(world_size - 0.4, -0.6)
    axes.xaxis.set_major_formatter("{x:,g}")
    legend_above(axes)
    ends = {rank: own[-1][1] for rank, own in by_rank.items() if own}
    first, last = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
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
