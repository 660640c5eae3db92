"""What a bench has measured, as a table for a projector and as a figure.

`bench` is an entry of `bench.BENCHES`, `report` what `bench.run_bench` gave for it.
"""

from __future__ import annotations

from typing import Any

WAYS = ("classic", "llmpipe")


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


def bench_table(bench: Any, report: dict) -> Any:
    """The report as a table of `rich`: both times and the ratio, with what they mean below."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{bench.title} ({report['dataset']})", style="bold")
    table = Table("stage")
    for name in (*WAYS, "as fast"):
        table.add_column(name, justify="right")
    rows = {**report["stages"], "all": report}
    for stage, row in rows.items():
        table.add_row(
            stage,
            *(seconds(row[f"{way}_s"]) for way in WAYS),
            times(row["ratio"]),
            style="bold" if stage == "all" else None,
            end_section=stage == bench.stages[-1],
        )
    runs = f"medians of {report['repeats']} runs of each in turn; ratios run by run: "
    runs += ", ".join(f"{ratio:.1f}" for ratio in report["ratios"])
    notes = [runs, *bench.notes(report), machine(report)]
    return Group(title, table, *(Padding(Text(note), (0, 0, 0, 1)) for note in notes))


def bench_figure(bench: Any, report: dict) -> Any:
    """Both times of every stage as bars with their numbers, and all of them together."""
    from llmpipe.kit.figure import BLUE, ORANGE, new_figure

    rows = {**report["stages"], "all": report}
    figure, (axes,) = new_figure(
        f"{bench.title}, {times(report['ratio'])} as fast ({report['dataset']})", size=(9, 5)
    )
    drawn = {"classic": (-0.2, ORANGE, "//"), "llmpipe": (0.2, BLUE, "")}
    for way, (shift, colour, hatch) in drawn.items():
        values = [row[f"{way}_s"] for row in rows.values()]
        places = [place + shift for place in range(len(rows))]
        axes.barh(
            places, values, height=0.38, color=colour, hatch=hatch, edgecolor="white", label=way
        )
        for place, row in zip(places, rows.values(), strict=True):
            words = f" {seconds(row[f'{way}_s'])}"
            if way == "llmpipe":
                words += f", {times(row['ratio'])} as fast"
            axes.text(row[f"{way}_s"], place, words, va="center", fontsize=10)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=11)
    axes.invert_yaxis()
    axes.set(xlabel="wall time (s)", xlim=(0, 1.12 * max(report["classic_s"], report["llmpipe_s"])))
    axes.grid(axis="x", color="0.9")
    axes.legend(frameon=False, fontsize=11, loc="upper right")
    note = f"median of {report['repeats']} runs; {machine(report)}"
    figure.supxlabel(note, size=8, x=0.01, ha="left", wrap=True)
    figure.caption = "; ".join(
        f"{stage}: {', '.join(f'{way} ' + seconds(row[f'{way}_s']) for way in WAYS)}"
        for stage, row in rows.items()
    )
    return figure
