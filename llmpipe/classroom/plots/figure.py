"""What all figures share: colours, number format, and a caption that shows under them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

# Okabe and Ito (2008), "Color Universal Design": told apart with any kind of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK)
GREY = "#666666"  # for words and lines that stand back
# A hatch or a marker goes with each colour, for those who print in black and white.
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--")
WITH_COMMAS = StrMethodFormatter("{x:,.0f}")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class CaptionedFigure(Figure):
    """A matplotlib figure that knows its numbers in words, `caption`, and stands without pyplot.

    As the last line of a notebook cell it shows the picture and prints the caption under it, so
    that whoever cannot see the picture, or compares outputs, has the numbers.
    """

    caption = ""

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import Image, display

        display(Image(self.png()))
        print(self.caption)


def new_figure(
    title: str, ratios: Sequence[float] = (1,), size: tuple[float, float] = (8, 4), across=True
) -> tuple[CaptionedFigure, list[Axes]]:
    """An empty figure of `size` inches with one axes a ratio, side by side or one above another."""
    figure = CaptionedFigure(figsize=size, dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    figure.suptitle(title, x=0.01, ha="left", size=12, weight="bold")
    if across:
        axes = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)
    else:
        axes = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.set_axisbelow(True)
        one.tick_params(labelsize=9)
    return figure, list(axes.flat)


def lying_bars(
    axes: Axes,
    values: Mapping[str, float],
    colours: Sequence[str],
    hatches: Sequence[str],
    words: Callable[[float], str],
) -> None:
    """Bars that lie, the first on top, each with its value in words at its end."""
    places = range(len(values))
    axes.barh(places, list(values.values()), color=colours, hatch=hatches, edgecolor="white")
    axes.set_yticks(places, list(values), fontsize=10)
    axes.invert_yaxis()
    most = max(values.values()) or 1
    for place, value in enumerate(values.values()):
        axes.text(value + most / 60, place, words(value), va="center", fontsize=9)
    # Room for the words, at about 0.08 inches a letter, past the end of the longest bar.
    longest = max(len(words(value)) for value in values.values())
    inches = axes.get_position().width * axes.figure.get_figwidth() - 0.3
    axes.set_xlim(0, most * inches / (inches - 0.08 * longest))


def legend_above(axes: Axes, handles: Sequence[Any] | None = None) -> None:
    """A legend between title and data, where it covers neither; of `handles`, or all labels."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    lengths = [len(handle.get_label()) for handle in handles]
    # As many columns as fit into the width: about 0.6 inches, and 0.08 a letter, each.
    for columns in range(len(handles), 0, -1):
        longest = [max(column) for column in np.array_split(lengths, columns)]
        if sum(0.6 + 0.08 * letters for letters in longest) < 7.6:
            break
    lines, height = -(-len(handles) // columns), axes.figure.get_figheight()
    axes.figure.get_layout_engine().set(rect=(0, 0, 1, 1 - (0.1 + 0.2 * lines) / height))
    place = {"loc": "upper left", "bbox_to_anchor": (0, 1 - 0.33 / height), "borderaxespad": 0}
    space = {"columnspacing": 1.5, "handlelength": 1.8, "labelspacing": 0.3, "frameon": False}
    axes.figure.legend(handles=handles, ncols=columns, fontsize=10, **place, **space)


def ranks(number: int) -> str:
    return f"{number} rank{'s' if number > 1 else ''}"


def name_ranks(axes: Axes, world_size: int, *below: str) -> None:
    """Name the rows of an axes: rank 0 on top, every rank while there is room, `below` them."""
    named = range(0, world_size, -(-world_size // 32))
    places = [*named, *range(world_size, world_size + len(below))]
    axes.set_yticks(places, [*(f"rank {rank}" for rank in named), *below], fontsize=10)


def short(number: float) -> str:
    """A number as one reads it aloud.

    >>> short(2_357_942), short(18421), short(54), short(0.25)
    ('2.36 M', '18,421', '54', '0.25')
    """
    if abs(number) >= 1e6:
        return f"{number / 1e6:,.3g} M" if abs(number) < 1e9 else f"{number / 1e9:,.3g} G"
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{number:.3g}"


def percent(ratio: float) -> str:
    """A ratio in words; what is not all is never rounded to all.

    >>> percent(0.25), percent(0.0123), percent(1), percent(0.99999)
    ('25%', '1.23%', '100%', '99.9%')
    """
    return f"{100 * ratio:.3g}%" if ratio <= 0.999 or ratio == 1 else "99.9%"


def check_ratios(name: str, ratios: Iterable[float]) -> None:
    """Raise ValueError unless all `ratios` are in [0, 1]."""
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {ratio}")


def same_length(**columns: Any) -> None:
    """Raise ValueError unless all the named columns have one length, of at least 1."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        counted = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"needs as many of each, and at least one, got {counted}")
