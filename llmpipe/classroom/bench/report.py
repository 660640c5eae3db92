"""What a bench has measured, as a table for a projector and as a figure.

`bench` is an entry of `bench.BENCHES`, `report` what `bench.run_bench` gave for it, with what is
measured once or without.
"""

from __future__ import annotations

from typing import Any

from llmpipe.classroom.bench.plan import Bench, ratio_key


def seconds(value: float) -> str:
    """Seconds as one reads them on a wall.

    >>> seconds(9.81), seconds(0.0441), seconds(0.000021)
    ('9.8 s', '44 ms', '0.021 ms')
    """
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.2g} ms"


def times(ratio: float) -> str:
    """A ratio in words: `41 times`, `0.4 times`; past a thousand its digits say nothing."""
    if ratio >= 1000:
        return "over 1,000 times"
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def machine(report: dict) -> str:
    """Cores and versions, in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"{report['cores']} cores, Python {report['python']}, {versions}"


def bench_table(bench: Bench, report: dict) -> Any:
    """The report as a table of `rich`: times and ratios, with what they mean below."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{bench.title} ({report['dataset']})", style="bold")
    table = Table("stage")
    old, *others = bench.ways
    for name in (old, *(name for way in others for name in (bench.label(way), "as fast"))):
        table.add_column(name, justify="right")
    rows = {**report["stages"], "all": report}
    for stage, row in rows.items():
        cells = [seconds(row[f"{old}_s"])]
        for way in others:
            cells += [seconds(row[f"{way}_s"]), times(row[ratio_key(way)])]
        table.add_row(
            stage,
            *cells,
            style="bold" if stage == "all" else None,
            end_section=stage == bench.stages[-1],
        )
    runs = f"medians of {report['repeats']} runs of each in turn; ratios run by run: "
    runs += ", ".join(f"{ratio:.1f}" for ratio in report["ratios"])
    notes = [runs, *bench.notes(report)]
    if bench.once and bench.once.name in report:
        notes += bench.once.notes(report[bench.once.name])
    notes = (Padding(Text(note), (0, 0, 0, 1)) for note in [*notes, machine(report)])
    return Group(title, table, *notes)


def bench_figure(bench: Bench, report: dict) -> Any:
    """All times of every stage as bars with their numbers, and all stages together.

    Beside them, where it was measured, what is measured once.
    """
    from llmpipe.classroom.plots.figure import new_figure

    found = report.get(bench.once.name) if bench.once else None
    title = f"{bench.title}, {times(report['ratio'])} as fast ({report['dataset']})"
    figure, axes = new_figure(title, ratios=(5, 3) if found else (1,), size=(9, 5))
    _draw_times(axes[0], bench, report)
    note = f"median of {report['repeats']} runs; {machine(report)}"
    figure.supxlabel(note, size=8, x=0.01, ha="left", wrap=True)
    figure.caption = "; ".join(
        f"{stage}: "
        + ", ".join(f"{bench.label(way)} {seconds(row[f'{way}_s'])}" for way in bench.ways)
        for stage, row in {**report["stages"], "all": report}.items()
    )
    if found:
        bench.once.draw(axes[1], found)
        figure.caption += "; " + "; ".join(bench.once.notes(found))
    return figure


def _draw_times(axes: Any, bench: Bench, report: dict) -> None:
    from llmpipe.classroom.plots.figure import BLUE, ORANGE, SKY

    rows, number = {**report["stages"], "all": report}, len(bench.ways)
    styles = zip(bench.ways, (ORANGE, BLUE, SKY), ("//", "", ".."), strict=False)
    for index, (way, colour, hatch) in enumerate(styles):
        shift = (index - (number - 1) / 2) * 0.8 / number
        values = [row[f"{way}_s"] for row in rows.values()]
        places = [place + shift for place in range(len(rows))]
        style = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": bench.label(way)}
        axes.barh(places, values, height=0.76 / number, **style)
        for place, row in zip(places, rows.values(), strict=True):
            words = f" {seconds(row[f'{way}_s'])}"
            if index:
                words += f", {times(row[ratio_key(way)])} as fast"
            axes.text(row[f"{way}_s"], place, words, va="center", fontsize=10)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=11)
    axes.invert_yaxis()
    most = max(report[f"{way}_s"] for way in bench.ways)
    axes.set(xlabel="wall time (s)", xlim=(0, 1.12 * most))
    axes.grid(axis="x", color="0.9")
    axes.legend(frameon=False, fontsize=11, loc="upper right")
