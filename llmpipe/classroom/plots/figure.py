"""What all figures share: colours, a caption for their numbers, and the parts they are drawn of."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from llmpipe.classroom.plots.colours import HATCHES, PALETTE

WITH_COMMAS = StrMethodFormatter("{x:,.0f}")
NOT_SCALED = StrMethodFormatter("{x:,g}")


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

        display(Image(self.png(), alt=" ".join(self.caption.split())))
        print(self.caption)


def new_figure(
    title: str,
    ratios: Sequence[float] = (1,),
    size: tuple[float, float] = (8, 4),
    across: bool = True,
    grid: str = "",
) -> tuple[CaptionedFigure, list[Axes]]:
    """An empty figure of `size` inches with one axes a ratio, side by side or one above another.

    `grid` is "x" or "y" for lines behind the data, across that axis.
    """
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
        if grid:
            one.grid(axis=grid, color="0.9")
    return figure, list(axes.flat)


def lying_bars(
    axes: Axes,
    values: Mapping[str, float],
    words: Callable[[float], str],
    colours: Sequence[str] = PALETTE,
    hatches: Sequence[str] = HATCHES,
) -> None:
    """Bars that lie, the first on top, each with its value in words at its end."""
    colours, hatches = (list(islice(cycle(looks), len(values))) for looks in (colours, hatches))
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


def bar_panels(
    title: str,
    panels: Mapping[str, tuple[Mapping[str, float], Callable[[float], str]]],
    height: float,
    colours: Sequence[str] = PALETTE,
    hatches: Sequence[str] = HATCHES,
) -> CaptionedFigure:
    """Panels of lying bars side by side, all of the same names; `panels` maps label to what.

    The names stand at the first panel only, and no axis repeats what stands at the bars' ends.
    """
    figure, all_axes = new_figure(title, [1] * len(panels), (8, height))
    for axes, (label, (values, words)) in zip(all_axes, panels.items(), strict=True):
        lying_bars(axes, values, words, colours, hatches)
        if axes is not all_axes[0]:
            axes.set_yticks(range(len(values)), [""] * len(values))
        axes.set_xlabel(label)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    return figure


def fill_steps(
    axes: Axes, top: Any, edges: Any, bottom: Any, colour: str, hatch: str, label: str | None = None
) -> None:
    """Fill between two step functions, as `Axes.stairs` does; the caller sets the limits.

    `stairs` looks at every step to find the limits itself: seconds, with tens of thousands of them.
    """
    look = {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
    axes.add_artist(StepPatch(top, edges, baseline=bottom, fill=True, label=label, **look))


def whole_numbers(axis: Axis, most: int = 8, least: int = 2) -> None:
    """Ticks at whole numbers only, about `least` to `most` of them, with commas."""
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=least))
    axis.set_major_formatter(WITH_COMMAS)


def name_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """A logarithmic x axis with a tick at each of `sizes`, for sizes that grow by factors."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())


def name_ranks(axes: Axes, world_size: int, *below: str) -> None:
    """Name the rows of an axes: rank 0 on top, every rank while there is room, `below` them."""
    named = range(0, world_size, -(-world_size // 32))
    places = [*named, *range(world_size, world_size + len(below))]
    axes.set_yticks(places, [*(f"rank {rank}" for rank in named), *below], fontsize=10)


def legend(axes: Axes, place: str = "best", columns: int = 1) -> None:
    axes.legend(frameon=False, fontsize=10, loc=place, ncols=columns)


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
