"""What training sees and reaches, drawn: labels by worker, loss and accuracy by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from llmpipe.classroom.plots.colours import BLACK, BLUE, GREY, MARKERS, ORANGE, PALETTE, VERMILION
from llmpipe.classroom.plots.figure import (
    CaptionedFigure,
    legend,
    legend_above,
    new_figure,
    whole_numbers,
)
from llmpipe.classroom.plots.words import (
    check_ratios,
    extremes,
    listed,
    percent,
    same_length,
)


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
    check_ratios("overall", [overall])
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


def loss_curve(losses: Sequence[float], vocab_size: int | None = None) -> CaptionedFigure:
    """Loss of a language model by training step, in nats a token.

    With `vocab_size`, a line at ln(vocab_size): what guessing every token with equal odds costs.
    """
    same_length(losses=losses)
    losses = np.asarray(losses, dtype=float)
    title = f"The loss goes from {losses[0]:.2f} to {losses[-1]:.2f}"
    figure, (axes,) = new_figure(title, grid="y")
    steps = np.arange(1, len(losses) + 1)
    marker = "o" if len(losses) <= 100 else ""
    axes.plot(steps, losses, color=BLUE, marker=marker, markersize=4, label="loss of the model")
    axes.set(xlabel="step (one batch each)", ylabel="loss (nats a token)")
    axes.set_xlim(0, len(losses) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lowest = int(losses.argmin())
    figure.caption = (
        f"{len(losses):,} steps: loss {losses[0]:.2f} at the first, {losses[-1]:.2f} at the last, "
        f"lowest {losses[lowest]:.2f} at step {lowest + 1:,}"
    )
    if vocab_size is not None:
        guessing = math.log(vocab_size)
        label = f"guessing: ln {vocab_size:,} = {guessing:.2f}"
        axes.axhline(guessing, color=VERMILION, linestyle="--", label=label)
        legend(axes)
        figure.caption += f"; guessing among {vocab_size:,} ids costs {guessing:.2f}"
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
    worst, best = extremes(final)
    title = f"{best} ends at {percent(final[best])} right"
    if final[worst] < final[best]:
        title += f", {worst} at {percent(final[worst])}"
    figure, (axes,) = new_figure(title, grid="y")
    for (name, points), colour, marker in zip(curves.items(), cycle(PALETTE), cycle(MARKERS)):
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=name)
    guessing = f"guessing: {percent(chance)}"
    axes.axhline(chance, color=GREY, linestyle="--", label=guessing)
    steps, accuracies = zip(*chain(*curves.values()), strict=True)
    axes.set(xlabel="step (one batch each)", ylabel="accuracy")
    axes.set_ylim(max(-0.02, min(chance, *accuracies) - 0.1), 1.02)
    beside = max(0.5, (max(steps) - min(steps)) / 30)
    axes.set_xlim(min(steps) - beside, max(steps) + beside)
    whole_numbers(axes.xaxis, least=1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend_above(axes)
    by_name = listed(curves, lambda points: listed(points, percent), "; ")
    figure.caption = f"accuracy by step: {by_name}; {guessing}"
    return figure
