"""The ledger as a picture: documents and ids from stage to stage, every loss with its reason."""

from __future__ import annotations

from matplotlib.ticker import EngFormatter

from llmpipe.kit.figure import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    WITH_COMMAS,
    CaptionedFigure,
    new_figure,
)
from llmpipe.ledger import Entry, Ledger


def ledger_waterfall(ledger: Ledger) -> CaptionedFigure:
    """Documents and ids from stage to stage: what came in, was added, dropped, left over, went out.

    One panel a unit of the ledger, drawn from above to below; counts of 0 are left out.
    """
    units: dict[str, list[tuple[str, str, int, int]]] = {}
    for entry in ledger:
        steps = _steps(entry, first=entry.unit not in units)
        units[entry.unit] = units.get(entry.unit, []) + steps
    if not units:
        raise ValueError("the ledger has no entries to draw")
    heights = [len(steps) + 1.5 for steps in units.values()]
    size = (8, max(4.0, 0.9 + 0.3 * sum(heights)))
    figure, panels = new_figure("Nothing goes missing: the ledger", heights, size, across=False)
    styles = {
        "total": (BLUE, ""),
        "added": (GREEN, ".."),
        "dropped": (VERMILION, "//"),
        "remainder": (ORANGE, "xx"),
    }
    for axes, (unit, steps) in zip(panels, units.items(), strict=True):
        most = max(max(start, end) for _, _, start, end in steps) or 1
        for row, (_, kind, start, end) in enumerate(steps):
            colour, hatch = styles[kind]
            left, width = min(start, end), abs(end - start)
            axes.barh(row, width, left=left, color=colour, hatch=hatch, edgecolor="white")
            if kind != "total":  # a line too: a bar of 54 in two million would not be seen
                axes.plot([end, end], [row - 0.4, row + 0.4], color=colour, linewidth=1.5)
            sign = {"total": "", "added": "+"}.get(kind, "\N{MINUS SIGN}")
            axes.text(max(start, end) + most / 80, row, f"{sign}{width:,}", va="center", size=9)
        axes.set_yticks(range(len(steps)), [label for label, *_ in steps], fontsize=9)
        axes.set(xlabel=unit, xlim=(0, most * 1.16), ylim=(len(steps) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if most >= 1e6 else WITH_COMMAS)
    figure.caption = str(ledger)
    return figure


def _steps(entry: Entry, first: bool) -> list[tuple[str, str, int, int]]:
    """The bars of one entry as (label, kind, start, end); a bar of kind total starts at 0."""
    steps, level = [], entry.num_in
    if first and entry.num_in:
        steps.append((f"into {entry.stage}", "total", 0, level))
    for reason, count in entry.added.items():
        steps.append((f"{entry.stage}: {reason}", "added", level, level + count))
        level += count
    losses = [(reason, "dropped", count) for reason, count in entry.dropped.items()]
    for reason, kind, count in [*losses, ("remainder", "remainder", entry.remainder)]:
        steps.append((f"{entry.stage}: {reason}", kind, level, level - count))
        level -= count
    steps = [step for step in steps if step[2] != step[3]]
    return [*steps, (f"out of {entry.stage}", "total", 0, level)]
