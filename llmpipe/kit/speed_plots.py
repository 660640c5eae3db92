"""How fast several ways to the same result are: a bar a way, and how many times the first it is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice

from matplotlib.ticker import EngFormatter

from llmpipe.kit.figure import (
    HATCHES,
    PALETTE,
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
