"""What the labs' bugs cost, drawn: ids that are lost, and time that grows with the square."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from llmpipe.classroom.plots.figure import (
    BLACK,
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    SKY,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    new_figure,
    same_length,
)


def ids_lost(lost: Mapping[int, int], num_ids: int, remainder: int) -> CaptionedFigure:
    """Ids lost when blocks are cut once a map batch, against one `chunk` over all.

    `lost` maps documents a map batch to ids lost, `num_ids` are all ids that came in, and
    `remainder` is what `chunk` over all of them leaves.
    """
    same_length(lost=lost)
    if num_ids < 1:
        raise ValueError(f"num_ids must be 1 or more, got {num_ids}")
    worst = max(lost, key=lost.__getitem__)
    figure, (axes,) = new_figure(
        f"Cut once a map batch, up to {lost[worst] / num_ids:.1%} of the ids are lost"
    )
    ways = {f"{size:,}": count for size, count in lost.items()} | {"chunk\nover all": remainder}
    colours = [VERMILION] * len(lost) + [BLUE]
    places = np.arange(len(ways))
    hatches = [*["//"] * len(lost), ""]
    axes.bar(places, list(ways.values()), color=colours, hatch=hatches, edgecolor="white")
    for place, count in zip(places, ways.values(), strict=True):
        words = f"{count:,}\n{100 * count / num_ids:.2g}%"
        axes.text(place, count, words, ha="center", va="bottom", fontsize=9)
    axes.set_xticks(places, list(ways))
    most = max(ways.values())
    axes.set(xlabel="documents a map batch", ylabel="ids lost", ylim=(0, most * 1.2 or 1))
    axes.yaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.yaxis.set_major_formatter(WITH_COMMAS)
    pairs = ", ".join(f"{size:,}: {count:,}" for size, count in lost.items())
    figure.caption = (
        f"ids lost of {num_ids:,}, by documents a map batch: {pairs}; "
        f"chunk over all leaves {remainder:,}"
    )
    return figure


def quadratic(lengths: Sequence[int], seconds: Mapping[str, Sequence[float]]) -> CaptionedFigure:
    """Time to join lists against how many there are; `seconds` maps each way to its times.

    The caption gives each way's power p, from the first and the last point: time ~ lengths ** p.
    """
    same_length(lengths=lengths, **seconds)
    figure, (axes,) = new_figure("Twice the lists: twice the time, or four times?")
    powers = []
    for index, (way, times) in enumerate(seconds.items()):
        colour, marker = (VERMILION, BLUE, GREEN, ORANGE, SKY, BLACK)[index % 6], MARKERS[index % 7]
        axes.plot(lengths, times, color=colour, marker=marker, label=way)
        power = "n/a"
        if times[0] > 0 and times[-1] > 0 and lengths[-1] > lengths[0]:
            power = f"{math.log(times[-1] / times[0]) / math.log(lengths[-1] / lengths[0]):.1f}"
        powers.append(f"{way}: {times[0]:.3g} s -> {times[-1]:.3g} s, power {power}")
    axes.set(xlabel="lists joined", ylabel="time (s)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(WITH_COMMAS)
    axes.grid(axis="y", color="0.9")
    axes.legend(frameon=False, fontsize=10, loc="upper left")
    figure.caption = f"{lengths[0]:,} -> {lengths[-1]:,} lists; " + "; ".join(powers)
    return figure
