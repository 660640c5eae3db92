"""Labels, drawn: which workers see one class only, and how many a classifier gets right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from llmpipe.kit.figure import (
    BLACK,
    BLUE,
    GREY,
    MARKERS,
    ORANGE,
    PALETTE,
    WITH_COMMAS,
    CaptionedFigure,
    check_ratios,
    legend_above,
    new_figure,
    percent,
    same_length,
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
