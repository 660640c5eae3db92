"""What streaming is good for, drawn: flat memory, a steady rate, less of everything than Lab 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import numpy as np
from matplotlib.ticker import EngFormatter

from llmpipe.classroom.plots.figure import (
    BLACK,
    BLUE,
    GREEN,
    HATCHES,
    MARKERS,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    lying_bars,
    new_figure,
    same_length,
    short,
)


def tokenizer_speeds(rates: Mapping[str, float], unit: str = "tokens/s") -> CaptionedFigure:
    """How fast each way of tokenizing the same documents is; `rates` maps way to tokens/s.

    The first way is what the others are compared with.
    """
    return _speeds(rates, unit, "The fastest way to the same ids")


def loader_speeds(rates: Mapping[str, float], unit: str = "tokens/s") -> CaptionedFigure:
    """How fast each way of loading the same blocks is; `rates` maps way to tokens/s.

    A way is, for example, "blocks, 2 workers". The first is what the others are compared with.
    """
    return _speeds(rates, unit, "The fastest way to load the same blocks")


def threads_or_processes(rates: Mapping[str, float], unit: str = "ids/s") -> CaptionedFigure:
    """How fast the same cores are, shared out as threads or as processes; maps way to ids/s.

    A way is, for example, "2 processes, 1 thread each". The first is what the others are compared
    with.
    """
    return _speeds(rates, unit, "The fastest way to use the cores")


def _speeds(rates: Mapping[str, float], unit: str, question: str) -> CaptionedFigure:
    same_length(rates=rates)
    first = next(iter(rates))
    fastest = max(rates, key=rates.__getitem__)
    figure, (axes,) = new_figure(f"{question}: {fastest}")

    def words(rate: float) -> str:
        times = rate / rates[first]
        return (
            short(rate)
            if times == 1
            else f"{short(rate)}, {times:,.{3 if times >= 1 else 2}g} times"
        )

    colours, hatches = (list(islice(cycle(each), len(rates))) for each in (PALETTE, HATCHES))
    lying_bars(axes, rates, colours, hatches, words)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.caption = f"{unit}: " + "; ".join(f"{way}: {words(rates[way])}" for way in rates)
    return figure


# What is to be left behind comes first, in a warm colour.
WAYS = (VERMILION, BLUE, GREEN, ORANGE, SKY, PURPLE, BLACK)


def memory_by_rows(num_rows: Sequence[int], peaks: Mapping[str, Sequence[int]]) -> CaptionedFigure:
    """Peak memory against rows read; `peaks` maps each way to bytes above what was held before.

    The title compares the ways at the most rows.
    """
    same_length(num_rows=num_rows, **peaks)
    if not peaks:
        raise ValueError("needs the peaks of at least one way")
    most_rows = max(num_rows)
    at_most = {way: sizes[list(num_rows).index(most_rows)] for way, sizes in peaks.items()}
    least, most = (choose(at_most, key=at_most.__getitem__) for choose in (min, max))
    title = f"{most}: {_mb(at_most[most])} at {most_rows:,} rows"
    if 0 < at_most[least] < at_most[most]:
        times = short(round(at_most[most] / at_most[least], 1))
        title = f"{least}: {times} times less memory at {most_rows:,} rows"
    figure, (axes,) = new_figure(title)
    for (way, sizes), colour, marker in zip(peaks.items(), cycle(WAYS), cycle(MARKERS)):
        axes.plot(num_rows, np.divide(sizes, 1e6), color=colour, marker=marker, label=way)
    axes.set(xlabel="rows read", ylabel="peak memory above the start (MB)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(WITH_COMMAS)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(axis="y", color="0.9")
    axes.legend(frameon=False, fontsize=10, loc="upper left")
    figure.caption = "peak memory above the start, by rows read: " + "; ".join(
        f"{way}: " + ", ".join(f"{n:,}: {_mb(s)}" for n, s in zip(num_rows, sizes, strict=True))
        for way, sizes in peaks.items()
    )
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
    figure, (upper, lower) = new_figure(
        f"{short(mean)} tokens/s on average; memory at most {above:,.0f} MB above the start",
        ratios=(1, 1),
        size=(8, 5),
        across=False,
    )
    steps = {"drawstyle": "steps-post", "color": BLUE, "label": "between two samples"}
    upper.plot(times, [*rates, rates[-1]], **steps)
    upper.axhline(mean, color=VERMILION, linestyle="--", label="mean")
    upper.set(xlabel="time (s)", ylabel="tokens/s", ylim=(0, rates.max() * 1.3 or 1))
    upper.yaxis.set_major_formatter(EngFormatter(sep=" "))
    upper.legend(frameon=False, fontsize=10, loc="upper right", ncols=2)
    lower.plot(seconds, megabytes, color=BLUE, marker="o", markersize=4)
    lower.set(xlabel="time (s)", ylabel="resident memory (MB)")
    lower.set_ylim(0, megabytes.max() * 1.1 or 1)
    lower.yaxis.set_major_formatter("{x:,g}")
    lower.sharex(upper)
    for axes in (upper, lower):
        axes.grid(axis="y", color="0.9")
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
    title = (
        f"{last} takes less: {', '.join(less)}" if less else f"{last}: nothing less than {first}"
    )
    figure, panels = new_figure(title, [1] * len(measures), size=(8, 1.5 + 0.6 * len(ways)))
    for axes, (measure, values) in zip(panels, measures.items(), strict=True):
        colours, hatches = (list(islice(cycle(each), len(ways))) for each in (WAYS, HATCHES))
        unit = units[measure]
        lying_bars(axes, values, colours, hatches, short)
        axes.set_xlabel(f"{measure}\n({unit})")
        axes.set_xticks([])  # the value stands at the end of each bar
        axes.spines["bottom"].set_visible(False)
        if axes is not panels[0]:
            axes.set_yticks(range(len(ways)), [""] * len(ways))  # named at the first panel
    figure.caption = "; ".join(
        f"{measure} ({units[measure]}): "
        + ", ".join(f"{way}: {short(value)}" for way, value in values.items())
        for measure, values in measures.items()
    )
    return figure


def _mb(num_bytes: float) -> str:
    return f"{short(num_bytes / 1e6)} MB"


def _s(seconds: float) -> str:
    return f"{round(seconds, 3):,g} s"
