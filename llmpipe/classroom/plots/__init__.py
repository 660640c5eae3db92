"""Figures for the labs: numbers in, one `Figure` out, its numbers in words in `figure.caption`.

    figure = plots.tokenizer_speeds({"one by one": 0.4e6, "batched": 0.9e6, "fast": 37e6})
    figure.caption

No function here measures or keeps anything, and none touches pyplot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter, NullLocator

from llmpipe.classroom.plots.bugs import ids_lost, quadratic
from llmpipe.classroom.plots.figure import (
    BLUE,
    ORANGE,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    lying_bars,
    new_figure,
    same_length,
    short,
)
from llmpipe.classroom.plots.labels import (
    accuracy_curves,
    cost_by_length,
    label_shares,
    lengths_and_cuts,
    padding_costs,
)
from llmpipe.classroom.plots.pipeline import block_origins, ledger_waterfall, pipeline_map
from llmpipe.classroom.plots.ranks import coverage_map, rank_bars, read_amplification, scaling
from llmpipe.classroom.plots.streams import (
    labs_compared,
    loader_speeds,
    memory_by_rows,
    threads_or_processes,
    throughput_over_time,
    tokenizer_speeds,
)
from llmpipe.classroom.plots.time_line import time_line

__all__ = [
    "accuracy_curves",
    "block_origins",
    "cost_by_length",
    "coverage_map",
    "ids_lost",
    "label_shares",
    "labs_compared",
    "ledger_waterfall",
    "lengths_and_cuts",
    "lengths_before_after",
    "loader_speeds",
    "loss_curve",
    "memory_by_rows",
    "padding_costs",
    "pipeline_map",
    "quadratic",
    "rank_bars",
    "read_amplification",
    "scaling",
    "threads_or_processes",
    "throughput_by",
    "throughput_over_time",
    "time_line",
    "tokenizer_speeds",
]


def lengths_before_after(
    before: Any, after: Any, reasons: Mapping[str, int], unit: str = "characters"
) -> CaptionedFigure:
    """Lengths of the documents before and after a filter, and how many went for which reason.

    `before` (D,) and `after` (K,) are lengths in `unit`; `reasons` counts documents, as
    `ledger["filter", "documents"].dropped` does. Raises ValueError unless D = K + all reasons.
    """
    before, after = np.asarray(before), np.asarray(after)
    dropped = {reason: count for reason, count in reasons.items() if count}
    if len(before) != len(after) + sum(dropped.values()):
        raise ValueError(
            f"{len(before):,} documents before, but {len(after):,} after and "
            f"{sum(dropped.values()):,} in reasons"
        )
    kept_ratio = len(after) / len(before) if len(before) else 0.0
    figure, (left, right) = new_figure(
        f"The filter keeps {kept_ratio:.0%} of the documents", ratios=(3, 2)
    )
    longest = max(10, before.max(initial=0))
    bins = np.geomspace(1, longest * 1.01, 40)
    both = {"before": (before, ORANGE, "//"), "after": (after, BLUE, "")}
    for label, (lengths, colour, hatch) in both.items():
        # 0 has no place on a logarithmic axis: the first bar holds lengths 0 and 1.
        counts, _ = np.histogram(np.maximum(lengths, 1), bins)
        left.stairs(
            counts, bins, fill=True, facecolor=colour, hatch=hatch, edgecolor="white", label=label
        )
    left.set_xscale("log")
    left.set(xlabel=f"length of a document ({unit}; 0 drawn as 1)", ylabel="documents")
    left.xaxis.set_major_formatter(WITH_COMMAS)
    left.xaxis.set_minor_formatter(NullFormatter())
    left.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    left.yaxis.set_major_formatter(WITH_COMMAS)
    left.legend(frameon=False, fontsize=10)
    counts = {"kept": len(after), **dropped}
    colours = [BLUE] + [ORANGE] * len(dropped)
    lying_bars(right, counts, colours, ["", *["//"] * len(dropped)], short)
    right.set_xlabel("documents")
    right.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    right.xaxis.set_major_formatter(WITH_COMMAS)
    medians = [f"{np.median(each):,.0f}" if len(each) else "none" for each in (before, after)]
    figure.caption = (
        f"{len(before):,} documents before, {len(after):,} after ({kept_ratio:.1%} kept); "
        f"median length {medians[0]} -> {medians[1]} {unit}; dropped: "
        + (", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "none")
    )
    return figure


def loss_curve(losses: Sequence[float], vocab_size: int | None = None) -> CaptionedFigure:
    """Loss of a language model by training step, in nats an id.

    With `vocab_size`, a line at ln(vocab_size): what guessing every id with equal odds costs.
    """
    same_length(losses=losses)
    losses = np.asarray(losses, dtype=float)
    figure, (axes,) = new_figure(f"The loss goes from {losses[0]:.2f} to {losses[-1]:.2f}")
    steps = np.arange(1, len(losses) + 1)
    marker = "o" if len(losses) <= 100 else ""
    axes.plot(steps, losses, color=BLUE, marker=marker, markersize=4, label="loss of the model")
    axes.set(xlabel="step (one batch each)", ylabel="loss (nats an id)", xlim=(0, len(losses) + 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="0.9")
    lowest = int(losses.argmin())
    figure.caption = (
        f"{len(losses):,} steps: loss {losses[0]:.2f} at the first, {losses[-1]:.2f} at the last, "
        f"lowest {losses[lowest]:.2f} at step {lowest + 1:,}"
    )
    if vocab_size is not None:
        guessing = math.log(vocab_size)
        label = f"guessing: ln {vocab_size:,} = {guessing:.2f}"
        axes.axhline(guessing, color=VERMILION, linestyle="--", label=label)
        axes.legend(frameon=False, fontsize=10)
        figure.caption += f"; guessing among {vocab_size:,} ids costs {guessing:.2f}"
    return figure


def throughput_by(
    x: Sequence[int],
    rates: Sequence[float],
    xlabel: str,
    unit: str = "tokens/s",
    marked: int | None = None,
) -> CaptionedFigure:
    """Throughput against a batch size or a block size; `marked` is a value of `x` to point out.

    `rates` are in `unit`; the x axis is logarithmic, since sizes are doubled.
    """
    same_length(x=x, rates=rates)
    rate_at = dict(zip(x, rates, strict=True))
    if marked is not None and marked not in rate_at:
        raise ValueError(f"marked is {marked!r}, which is not one of {list(x)}")
    best = max(rate_at, key=rate_at.__getitem__)
    figure, (axes,) = new_figure(f"Throughput by {xlabel}: best at {best:,}")
    axes.plot(x, rates, color=BLUE, marker="o", label=unit)
    axes.set_xscale("log", base=2)
    axes.set(xlabel=xlabel, ylabel=unit, ylim=(0, max(rates) * 1.15 or 1))
    axes.set_xticks(list(x), [f"{value:,}" for value in x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.grid(axis="y", color="0.9")
    pairs = ", ".join(f"{value:,}: {short(rate)}" for value, rate in rate_at.items())
    figure.caption = f"{unit} by {xlabel}: {pairs}; best at {best:,}"
    if marked is not None:
        style = {"marker": "s", "markersize": 11, "linestyle": "none", "color": VERMILION}
        label = f"{marked:,}: {short(rate_at[marked])} {unit}"
        axes.plot([marked], [rate_at[marked]], label=label, **style)
        axes.legend(frameon=False, fontsize=10, loc="lower right")
        figure.caption += f"; marked: {marked:,}"
    return figure
