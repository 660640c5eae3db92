"""What the lengths of texts cost, drawn: documents filtered, ids lost or cut off, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, PercentFormatter

from llmpipe.arguments import check_count
from llmpipe.classroom.plots.colours import BLUE, ORANGE, VERMILION
from llmpipe.classroom.plots.figure import (
    WITH_COMMAS,
    CaptionedFigure,
    bar_panels,
    legend,
    lying_bars,
    name_sizes,
    new_figure,
    whole_numbers,
)
from llmpipe.classroom.plots.words import (
    check_ratios,
    extremes,
    listed,
    percent,
    same_length,
    short,
    whole,
)


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
    bins = np.geomspace(1, max(10, before.max(initial=0)) * 1.01, 40)
    both = {"before": (before, ORANGE, "//"), "after": (after, BLUE, "")}
    for label, (lengths, colour, hatch) in both.items():
        _histogram(left, lengths, bins, colour, hatch=hatch, label=label)
    left.set_xscale("log")
    left.set(xlabel=f"length of a document ({unit}; 0 drawn as 1)", ylabel="documents")
    left.xaxis.set_major_formatter(WITH_COMMAS)
    left.xaxis.set_minor_formatter(NullFormatter())
    whole_numbers(left.yaxis)
    legend(left)
    colours, hatches = [BLUE] + [ORANGE] * len(dropped), [""] + ["//"] * len(dropped)
    lying_bars(right, {"kept": len(after), **dropped}, short, colours, hatches)
    right.set_xlabel("documents")
    whole_numbers(right.xaxis, 4)
    medians = [f"{np.median(each):,.0f}" if len(each) else "none" for each in (before, after)]
    figure.caption = (
        f"{len(before):,} documents before, {len(after):,} after ({kept_ratio:.1%} kept); "
        f"median length {medians[0]} -> {medians[1]} {unit}; dropped: "
        + (", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "none")
    )
    return figure


def ids_lost(lost: Mapping[int, int], num_ids: int, remainder: int) -> CaptionedFigure:
    """Ids lost when blocks are cut once a map batch, against one `chunk` over all.

    `lost` maps documents a map batch to ids lost, `num_ids` are all ids that came in, and
    `remainder` is what `chunk` over all of them leaves.
    """
    same_length(lost=lost)
    check_count("num_ids", num_ids, 1)
    worst = max(lost.values()) / num_ids
    figure, (axes,) = new_figure(f"Cut once a map batch, up to {worst:.1%} of the ids are lost")
    ways = {f"{size:,}": count for size, count in lost.items()} | {"chunk\nover all": remainder}
    look = {"color": [*[VERMILION] * len(lost), BLUE], "hatch": [*["//"] * len(lost), ""]}
    axes.bar(range(len(ways)), list(ways.values()), edgecolor="white", **look)
    for place, count in enumerate(ways.values()):
        words = f"{count:,}\n{100 * count / num_ids:.2g}%"
        axes.text(place, count, words, ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(ways)), list(ways))
    axes.set(xlabel="documents a map batch", ylabel="ids lost")
    axes.set_ylim(0, max(ways.values()) * 1.2 or 1)
    whole_numbers(axes.yaxis, 7)
    figure.caption = (
        f"ids lost of {num_ids:,}, by documents a map batch: {listed(lost, whole)}; "
        f"chunk over all leaves {remainder:,}"
    )
    return figure


def lengths_and_cuts(lengths: Any, max_lengths: Sequence[int]) -> CaptionedFigure:
    """How long the reviews are, and the share that loses text at each of `max_lengths`.

    `lengths` (num_reviews,) are in ids before any cut; a review longer than a max_length loses
    text there. Raises ValueError for no review, no max_length, a length below 0 and a max_length
    below 1.
    """
    lengths, max_lengths = np.asarray(lengths), sorted(set(max_lengths))
    if not len(lengths) or not max_lengths:
        counted = f"lengths {len(lengths)}, max_lengths {len(max_lengths)}"
        raise ValueError(f"needs at least one of each, got {counted}")
    if lengths.min() < 0:
        raise ValueError(f"lengths must be 0 or more, got one of {lengths.min()}")
    if max_lengths[0] < 1:
        raise ValueError(f"max_lengths must be 1 or more, got {max_lengths}")
    cut = {max_length: float((lengths > max_length).mean()) for max_length in max_lengths}
    figure, (axes,) = new_figure(
        "Reviews that lose text: "
        + ", ".join(f"{percent(cut[m])} at {m:,} ids" for m in _ends(max_lengths))
    )
    longest = max(10, int(lengths.max()), max_lengths[-1])
    shortest = max(1, min(int(lengths.min()), max_lengths[0]))
    beside = (longest / shortest) ** 0.07  # for the words
    bins = np.geomspace(shortest / beside, longest * beside, 60)
    top = _histogram(axes, lengths, bins, BLUE)
    powers = [2**power for power in range(64) if bins[0] <= 2**power <= bins[-1]]
    name_sizes(axes, powers[:: -(-len(powers) // 10)])
    # Each word on the lowest line on which it does not touch the one before.
    room = np.log(bins[-1] / bins[0]) / 6.9 * 0.75  # of three quarters of an inch
    line_ends: list[float] = []
    for max_length, share in cut.items():
        place = float(np.log(max_length))
        line = next((i for i, end in enumerate(line_ends) if place >= end), len(line_ends))
        line_ends[line : line + 1] = [place + room]
        height = top * (1.04 + 0.2 * line)
        axes.plot([max_length] * 2, [0, height], color=VERMILION, linestyle="--")
        words = f"{max_length:,} ids:\n{percent(share)} cut"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0}  # higher lines pass behind
        axes.text(max_length, height, words, ha="center", va="bottom", fontsize=9, bbox=box)
    axes.set(xlabel="length of a review (ids)", ylabel="reviews", xlim=(bins[0], bins[-1]))
    axes.set_ylim(0, top * (1.06 + 0.2 * len(line_ends)))
    whole_numbers(axes.yaxis, 7)
    figure.caption = (
        f"{len(lengths):,} reviews of {lengths.min():,} to {lengths.max():,} ids, median "
        f"{np.median(lengths):,.0f}; longer than {listed(cut, percent)}"
    )
    return figure


def padding_costs(
    padding_ratios: Mapping[str, float], samples_per_s: Mapping[str, float]
) -> CaptionedFigure:
    """How much of the batches is padding, and how many samples/s go through, by way of padding.

    Both map the same ways, for example "fixed", "dynamic" and "bucketed"; a padding ratio is the
    share, in [0, 1], of a batch's ids that are padding.
    """
    same_length(padding_ratios=padding_ratios, samples_per_s=samples_per_s)
    if list(padding_ratios) != list(samples_per_s):
        raise ValueError(
            f"padding_ratios are of {list(padding_ratios)}, samples_per_s of {list(samples_per_s)}"
        )
    check_ratios("padding_ratios", padding_ratios.values())
    first, (least, _) = next(iter(padding_ratios)), extremes(padding_ratios)
    title = f"{least}: {percent(padding_ratios[least])} of the ids are padding"
    if padding_ratios[least] < padding_ratios[first]:
        title += f"; {first}: {percent(padding_ratios[first])}"
    panels = {
        "padding (share of all ids)": (padding_ratios, percent),
        "samples/s": (samples_per_s, short),
    }
    figure = bar_panels(title, panels, height=1.6 + 0.5 * len(padding_ratios))
    figure.caption = "; ".join(
        f"{way}: {percent(ratio)} padding, {short(samples_per_s[way])} samples/s"
        for way, ratio in padding_ratios.items()
    )
    return figure


def cost_by_length(
    max_lengths: Sequence[int],
    samples_per_s: Sequence[float],
    truncated_ratios: Sequence[float],
) -> CaptionedFigure:
    """What each max_length costs: samples/s above, and below the share of reviews that lose text.

    `truncated_ratios` are in [0, 1]; the x axis is logarithmic, for lengths that grow by factors.
    """
    columns = {"samples_per_s": samples_per_s, "truncated_ratios": truncated_ratios}
    same_length(max_lengths=max_lengths, **columns)
    check_ratios("truncated_ratios", truncated_ratios)
    if min(max_lengths) < 1 or len(set(max_lengths)) < len(max_lengths):
        raise ValueError(f"max_lengths must be different and above 0, got {list(max_lengths)}")
    points = sorted(zip(max_lengths, samples_per_s, truncated_ratios, strict=True))
    lengths, rates, ratios = zip(*points, strict=True)
    at, fast, cut = (
        " -> ".join(map(words, _ends(column)))
        for words, column in ((whole, lengths), (short, rates), (percent, ratios))
    )
    title = f"{at} ids: {fast} samples/s, {cut} of the reviews cut"
    figure, (upper, lower) = new_figure(title, [1, 1], (8, 5), across=False, grid="y")
    upper.plot(lengths, rates, color=BLUE, marker="o")
    upper.set(ylabel="samples/s", ylim=(0, max(rates) * 1.15 or 1))
    upper.yaxis.set_major_formatter(lambda rate, _: short(rate))
    lower.plot(lengths, ratios, color=ORANGE, marker="s", linestyle="--")
    lower.set(ylabel="reviews that lose text", ylim=(0, max(ratios) * 1.15 or 1))
    lower.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (upper, lower):
        axes.set_xlabel("max_length (ids)")
        name_sizes(axes, lengths)
    figure.caption = "by max_length: " + "; ".join(
        f"{length:,}: {short(rate)} samples/s, {percent(ratio)} of the reviews cut"
        for length, rate, ratio in points
    )
    return figure


def _ends(items: Sequence[Any]) -> Sequence[Any]:
    """The first and the last; one where they are the same."""
    return [items[0], items[-1]] if len(items) > 1 else items


def _histogram(axes: Axes, lengths: np.ndarray, bins: np.ndarray, colour: str, **look: str) -> int:
    """Draw how many lengths are in each bin, for a logarithmic axis; returns the most."""
    counts, _ = np.histogram(np.maximum(lengths, 1), bins)  # 0 has no place there: 0 and 1 are one
    axes.stairs(counts, bins, fill=True, facecolor=colour, edgecolor="white", **look)
    return counts.max()
