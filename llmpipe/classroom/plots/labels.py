"""What one length for all costs, drawn: text cut off, ids that are padding, samples/s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from llmpipe.classroom.plots.figure import (
    BLACK,
    BLUE,
    GREY,
    HATCHES,
    MARKERS,
    ORANGE,
    PALETTE,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    check_ratios,
    legend_above,
    lying_bars,
    new_figure,
    percent,
    same_length,
    short,
)


def label_shares(
    shares: Mapping[str, Sequence[float]], overall: float | None = None
) -> CaptionedFigure:
    """The share of positive labels that each worker sees, a panel for each strategy of dealing.

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
    check_ratios("overall", [overall])
    one_sided = {
        strategy: f"{sum(share in (0, 1) for share in each)} of {len(each)}"
        for strategy, each in shares.items()
    }
    worst = max(shares, key=lambda way: np.mean([share in (0, 1) for share in shares[way]]))
    title = f"{worst}: {one_sided[worst]} workers see one class only"
    if one_sided[worst].startswith("0 "):
        title = "Every worker sees both classes"
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
        axes.set_xlabel(f"{strategy}:\none class: {one_sided[strategy]}")
    legend_above(panels[0])
    figure.caption = "share of positives by worker: " + "; ".join(
        f"{strategy}: " + ", ".join(map(percent, each)) for strategy, each in shares.items()
    )
    figure.caption += f"; in all {percent(overall)}"
    return figure


def accuracy_curves(
    curves: Mapping[str, Iterable[tuple[int, float]]], chance: float = 0.5
) -> CaptionedFigure:
    """Accuracy by training step, a line for each name; `curves` holds pairs (step, accuracy).

    `chance` is what guessing gets right. Raises ValueError for no curve, an empty one, and for an
    accuracy not in [0, 1].
    """
    curves = {name: sorted(points) for name, points in curves.items()}
    same_length(curves=curves)
    check_ratios("chance", [chance])
    for name, points in curves.items():
        same_length(**{name: points})
        check_ratios(name, [accuracy for _, accuracy in points])
    final = {name: points[-1][1] for name, points in curves.items()}
    best, worst = (choose(final, key=final.__getitem__) for choose in (max, min))
    title = f"{best} ends at {percent(final[best])} right"
    if final[worst] < final[best]:
        title += f", {worst} at {percent(final[worst])}"
    figure, (axes,) = new_figure(title)
    for (name, points), colour, marker in zip(curves.items(), cycle(PALETTE), cycle(MARKERS)):
        steps, accuracies = zip(*points, strict=True)
        axes.plot(steps, accuracies, color=colour, marker=marker, label=name)
    label = f"guessing: {percent(chance)}"
    axes.axhline(chance, color=GREY, linestyle="--", label=label)
    steps, accuracies = zip(*chain(*curves.values()), strict=True)
    axes.set(xlabel="step (one batch each)", ylabel="accuracy")
    axes.set_ylim(max(-0.02, min(chance, *accuracies) - 0.1), 1.02)
    beside = max(0.5, (max(steps) - min(steps)) / 30)
    axes.set_xlim(min(steps) - beside, max(steps) + beside)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(WITH_COMMAS)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", color="0.9")
    legend_above(axes)
    figure.caption = "accuracy by step: " + "; ".join(
        f"{name}: " + ", ".join(f"{step:,}: {percent(right)}" for step, right in points)
        for name, points in curves.items()
    )
    figure.caption += f"; {label}"
    return figure


def lengths_and_cuts(lengths: Any, max_lengths: Sequence[int]) -> CaptionedFigure:
    """How long the reviews are, and the share that loses text at each of `max_lengths`.

    `lengths` (num_reviews,) are in ids before any cut; a review longer than a max_length loses
    text there. Raises ValueError for no review, no max_length, a length below 0 and a max_length
    below 1.
    """
    lengths, max_lengths = np.asarray(lengths), sorted(set(max_lengths))
    if not len(lengths) or not max_lengths:
        raise ValueError(
            f"needs at least one of each, got lengths {len(lengths)}, max_lengths "
            f"{len(max_lengths)}"
        )
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
    counts, _ = np.histogram(np.maximum(lengths, 1), bins)
    axes.stairs(counts, bins, fill=True, facecolor=BLUE, edgecolor="white")
    axes.set_xscale("log")
    # Each word on the lowest line on which it does not touch the one before.
    room = np.log(bins[-1] / bins[0]) / 6.9 * 0.75  # of three quarters of an inch
    line_ends: list[float] = []
    top = counts.max()
    for max_length in max_lengths:
        place = float(np.log(max_length))
        line = next((i for i, end in enumerate(line_ends) if place >= end), len(line_ends))
        line_ends[line : line + 1] = [place + room]
        height = top * (1.04 + 0.2 * line)
        axes.plot([max_length] * 2, [0, height], color=VERMILION, linestyle="--")
        words = f"{max_length:,} ids:\n{percent(cut[max_length])} cut"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0}  # higher lines pass behind
        axes.text(max_length, height, words, ha="center", va="bottom", fontsize=9, bbox=box)
    axes.set(xlim=(bins[0], bins[-1]), ylim=(0, top * (1.06 + 0.2 * len(line_ends))))
    _powers_of_two(axes, bins[0], bins[-1])
    axes.set(xlabel="length of a review (ids)", ylabel="reviews")
    axes.yaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.yaxis.set_major_formatter(WITH_COMMAS)
    figure.caption = (
        f"{len(lengths):,} reviews of {lengths.min():,} to {lengths.max():,} ids, median "
        f"{np.median(lengths):,.0f}; longer than "
        + ", ".join(f"{max_length:,}: {percent(share)}" for max_length, share in cut.items())
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
    first, least = next(iter(padding_ratios)), min(padding_ratios, key=padding_ratios.__getitem__)
    title = f"{least}: {percent(padding_ratios[least])} of the ids are padding"
    if padding_ratios[least] < padding_ratios[first]:
        title += f"; {first}: {percent(padding_ratios[first])}"
    size = (8, 1.6 + 0.5 * len(padding_ratios))
    figure, (left, right) = new_figure(title, [1, 1], size)
    looks = [list(islice(cycle(each), len(padding_ratios))) for each in (PALETTE, HATCHES)]
    lying_bars(left, padding_ratios, *looks, percent)
    left.set_xlabel("padding (share of all ids)")
    lying_bars(right, samples_per_s, *looks, short)
    right.set_xlabel("samples/s")
    right.set_yticks(range(len(samples_per_s)), [""] * len(samples_per_s))  # named at the left
    for axes in (left, right):
        axes.set_xticks([])  # the value stands at the end of each bar
        axes.spines["bottom"].set_visible(False)
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

    `truncated_ratios` are in [0, 1]; the x axis is logarithmic, since lengths are doubled.
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
        for words, column in (("{:,}".format, lengths), (short, rates), (percent, ratios))
    )
    title = f"{at} ids: {fast} samples/s, {cut} of the reviews cut"
    figure, (upper, lower) = new_figure(title, [1, 1], (8, 5), across=False)
    upper.plot(lengths, rates, color=BLUE, marker="o")
    upper.set(ylabel="samples/s", ylim=(0, max(rates) * 1.15 or 1))
    upper.yaxis.set_major_formatter(lambda rate, _: short(rate))
    lower.plot(lengths, ratios, color=ORANGE, marker="s", linestyle="--")
    lower.set(ylabel="reviews that lose text", ylim=(0, max(ratios) * 1.15 or 1))
    lower.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (upper, lower):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("max_length (ids)")
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y", color="0.9")
    figure.caption = "by max_length: " + "; ".join(
        f"{length:,}: {short(rate)} samples/s, {percent(ratio)} of the reviews cut"
        for length, rate, ratio in points
    )
    return figure


def _ends(items: Sequence[Any]) -> Sequence[Any]:
    """The first and the last; one where they are the same."""
    return [items[0], items[-1]] if len(items) > 1 else items


def _powers_of_two(axes: Axes, low: float, high: float) -> None:
    """Name the powers of two between `low` and `high`, at most about ten."""
    powers = [2**power for power in range(64) if low <= 2**power <= high]
    powers = powers[:: -(-len(powers) // 10)]
    axes.set_xticks(powers, [f"{power:,}" for power in powers])
    axes.xaxis.set_minor_locator(NullLocator())
