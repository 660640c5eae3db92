"""What runs were measured at, drawn: rates, time, memory, and what a model makes of the batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from llmpipe.arguments import check_number
from llmpipe.classroom.plots.colours import BLUE, GREY, MARKERS, PALETTE, VERMILION, WARM_FIRST
from llmpipe.classroom.plots.figure import (
    NOT_SCALED,
    WITH_COMMAS,
    CaptionedFigure,
    bar_panels,
    legend,
    legend_above,
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
)


def tokenizer_speeds(rates: Mapping[str, float], unit: str = "tokens/s") -> CaptionedFigure:
    """How fast each way of tokenizing the same documents is, and how many times the first."""
    return _speeds(rates, unit, "The fastest way to the same ids")


def loader_speeds(rates: Mapping[str, float], unit: str = "tokens/s") -> CaptionedFigure:
    """The same for ways of loading the same blocks, for example "blocks, 2 workers"."""
    return _speeds(rates, unit, "The fastest way to load the same blocks")


def threads_or_processes(rates: Mapping[str, float], unit: str = "tokens/s") -> CaptionedFigure:
    """The same for ways to use the cores, for example "2 processes, 1 thread each"."""
    return _speeds(rates, unit, "The fastest way to use the cores")


def _speeds(rates: Mapping[str, float], unit: str, question: str) -> CaptionedFigure:
    same_length(rates=rates)
    first, (_, fastest) = next(iter(rates)), extremes(rates)
    figure, (axes,) = new_figure(f"{question}: {fastest}")

    def words(rate: float) -> str:
        times = rate / rates[first]
        digits = 3 if times >= 1 else 2
        return short(rate) if times == 1 else f"{short(rate)}, {times:,.{digits}g} times"

    lying_bars(axes, rates, words)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.caption = f"{unit}: {listed(rates, words, '; ')}"
    return figure


def throughput_by(
    x: Sequence[int],
    rates: Sequence[float],
    xlabel: str,
    unit: str = "tokens/s",
    marked: int | None = None,
) -> CaptionedFigure:
    """Throughput against a batch size or a block size; `marked` is a value of `x` to point out.

    `rates` are in `unit`; the x axis is logarithmic, for sizes that grow by factors.
    """
    same_length(x=x, rates=rates)
    rate_at = dict(zip(x, rates, strict=True))
    if marked is not None and marked not in rate_at:
        raise ValueError(f"marked is {marked!r}, which is not one of {list(x)}")
    _, best = extremes(rate_at)
    figure, (axes,) = new_figure(f"Throughput by {xlabel}: best at {best:,}", grid="y")
    axes.plot(x, rates, color=BLUE, marker="o", label=unit)
    axes.set(xlabel=xlabel, ylabel=unit, ylim=(0, max(rates) * 1.15 or 1))
    name_sizes(axes, x)
    axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.caption = f"{unit} by {xlabel}: {listed(rate_at)}; best at {best:,}"
    if marked is not None:
        style = {"marker": "s", "markersize": 11, "linestyle": "none", "color": VERMILION}
        label = f"{marked:,}: {short(rate_at[marked])} {unit}"
        axes.plot([marked], [rate_at[marked]], label=label, **style)
        legend(axes, "lower right")
        figure.caption += f"; marked: {marked:,}"
    return figure


def throughput_over_time(
    seconds: Sequence[float], tokens: Sequence[int], memory_bytes: Sequence[int]
) -> CaptionedFigure:
    """Tokens/s between samples, and resident memory at each of them, against time.

    `tokens` are totals since the start, as in a monitor's `samples`. A last interval of less than
    half the one before it is taken together with that: a rate of one batch says little. Raises
    ValueError for fewer than two samples, seconds that do not grow, and tokens that fall.
    """
    same_length(seconds=seconds, tokens=tokens, memory_bytes=memory_bytes)
    times, tokens = np.asarray(seconds, dtype=float), np.asarray(tokens, dtype=float)
    spans, counts = np.diff(times), np.diff(tokens)
    if len(spans) < 1 or spans.min() <= 0 or counts.min() < 0:
        raise ValueError(
            f"needs two samples or more, of growing seconds and totals of tokens, got seconds "
            f"{times.tolist()} and tokens {tokens.tolist()}"
        )
    if len(spans) > 1 and spans[-1] < spans[-2] / 2:
        times, tokens = np.delete(times, -2), np.delete(tokens, -2)
        spans, counts = np.diff(times), np.diff(tokens)
    rates, mean = counts / spans, counts.sum() / spans.sum()
    megabytes = np.divide(memory_bytes, 1e6)
    above = megabytes.max() - megabytes[0]
    title = f"{short(mean)} tokens/s on average; memory at most {above:,.0f} MB above the start"
    figure, (upper, lower) = new_figure(title, [1, 1], (8, 5), across=False, grid="y")
    steps = {"drawstyle": "steps-post", "color": BLUE, "label": "between two samples"}
    upper.plot(times, [*rates, rates[-1]], **steps)
    upper.axhline(mean, color=VERMILION, linestyle="--", label="mean")
    upper.set(xlabel="time (s)", ylabel="tokens/s", ylim=(0, rates.max() * 1.3 or 1))
    upper.yaxis.set_major_formatter(EngFormatter(sep=" "))
    legend(upper, "upper right", columns=2)
    lower.plot(seconds, megabytes, color=BLUE, marker="o", markersize=4)
    lower.set(xlabel="time (s)", ylabel="resident memory (MB)")
    lower.set_ylim(0, megabytes.max() * 1.1 or 1)
    lower.yaxis.set_major_formatter(NOT_SCALED)
    lower.sharex(upper)
    slowest, fastest = (
        f"{short(rates[i])} (from {_s(times[i])} to {_s(times[i + 1])})"
        for i in (rates.argmin(), rates.argmax())
    )
    figure.caption = (
        f"{short(counts.sum())} tokens in {_s(spans.sum())}: mean {short(mean)} tokens/s; "
        f"slowest interval {slowest}, fastest {fastest}; resident memory first "
        f"{megabytes[0]:,.0f} MB, last {megabytes[-1]:,.0f} MB, peak {megabytes.max():,.0f} MB"
    )
    return figure


def quadratic(lengths: Sequence[int], seconds: Mapping[str, Sequence[float]]) -> CaptionedFigure:
    """Time to join lists against how many there are; `seconds` maps each way to its times.

    The caption gives each way's power p, from the first and the last point: time ~ lengths ** p.
    """
    same_length(lengths=lengths, **seconds)
    figure, (axes,) = new_figure("Twice the lists: twice the time, or four times?", grid="y")
    _lines(axes, lengths, seconds)
    axes.set(xlabel="lists joined", ylabel="time (s)")
    powers = []
    for way, times in seconds.items():
        power = "n/a"
        if times[0] > 0 and times[-1] > 0 and lengths[-1] > lengths[0]:
            power = f"{math.log(times[-1] / times[0]) / math.log(lengths[-1] / lengths[0]):.1f}"
        powers.append(f"{way}: {times[0]:.3g} s -> {times[-1]:.3g} s, power {power}")
    figure.caption = "; ".join([f"{lengths[0]:,} -> {lengths[-1]:,} lists", *powers])
    return figure


def memory_by_rows(num_rows: Sequence[int], peaks: Mapping[str, Sequence[int]]) -> CaptionedFigure:
    """Peak memory against rows read; `peaks` maps each way to bytes above what was held before.

    The title compares the ways at the most rows.
    """
    same_length(num_rows=num_rows, **peaks)
    if not peaks:
        raise ValueError("needs the peaks of at least one way")
    most_rows = max(num_rows)
    at_most = {way: sizes[list(num_rows).index(most_rows)] for way, sizes in peaks.items()}
    least, most = extremes(at_most)
    title = f"{most}: {_mb(at_most[most])} at {most_rows:,} rows"
    if 0 < at_most[least] < at_most[most]:
        times = short(round(at_most[most] / at_most[least], 1))
        title = f"{least}: {times} times less memory at {most_rows:,} rows"
    figure, (axes,) = new_figure(title, grid="y")
    _lines(axes, num_rows, {way: np.divide(sizes, 1e6) for way, sizes in peaks.items()})
    axes.set(xlabel="rows read", ylabel="peak memory above the start (MB)")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(NOT_SCALED)
    by_way = listed(peaks, lambda sizes: listed(zip(num_rows, sizes, strict=True), _mb), "; ")
    figure.caption = f"peak memory above the start, by rows read: {by_way}"
    return figure


def _lines(axes: Axes, x: Sequence[int], ways: Mapping[str, Sequence[float]]) -> None:
    """A line a way over counts; from 0, as twice as high is to be twice as much."""
    for (way, y), colour, marker in zip(ways.items(), cycle(WARM_FIRST), cycle(MARKERS)):
        axes.plot(x, y, color=colour, marker=marker, label=way)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(WITH_COMMAS)
    legend(axes, "upper left")


def labs_compared(
    measures: Mapping[str, Mapping[str, float]], units: Mapping[str, str]
) -> CaptionedFigure:
    """Two or more ways, one panel a measure; of each of these, less is better.

    `measures` maps a measure to a value for each way, `units` a measure to its unit. The title
    compares the last way with the first. Raises ValueError unless every measure has the same ways,
    and a unit.
    """
    same_length(measures=measures)
    ways = list(next(iter(measures.values())))
    for measure, values in measures.items():
        if not values:
            raise ValueError(f"{measure!r} is of no way")
        if list(values) != ways:
            raise ValueError(f"{measure!r} is of {list(values)}, the first measure of {ways}")
        if measure not in units:
            raise ValueError(f"no unit for {measure!r}: units has {list(units)}")
    first, last = ways[0], ways[-1]
    less = [name for name, values in measures.items() if values[last] < values[first]]
    title = f"{last} takes less: {', '.join(less)}"
    panels = {f"{name}\n({units[name]})": (values, short) for name, values in measures.items()}
    figure = bar_panels(
        title if less else f"{last}: nothing less than {first}",
        panels,
        height=1.5 + 0.6 * len(ways),
        colours=WARM_FIRST,
    )
    figure.caption = "; ".join(
        f"{measure} ({units[measure]}): {listed(values)}" for measure, values in measures.items()
    )
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
    check_number("chance", chance, 0, 1)
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


def _mb(num_bytes: float) -> str:
    return f"{short(num_bytes / 1e6)} MB"


def _s(seconds: float) -> str:
    return f"{round(seconds, 3):,g} s"
