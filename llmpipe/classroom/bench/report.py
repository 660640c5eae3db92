"""What a bench has measured, as a table for a projector and as a figure.

`bench` is an entry of `run.BENCHES`, `report` what `run.run_bench` gave for it, with what is
measured once or without.
"""

from __future__ import annotations

from typing import Any

from llmpipe.classroom.bench.plan import Bench, name_of, ratio_key


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


def loading(bench: Bench, report: dict) -> str:
    """How long each way took to load its tokenizer, which is not in the clock."""
    return bench.each(lambda way: seconds(report["tokenizer"][f"{way}_s"]))


def epoch_in_clock(bench: Bench, report: dict, batches: str) -> str:
    """The note on a way's process that reads one epoch of a stream."""
    return (
        f"in the clock: from opening the file to the end of one epoch, batches of {batches}, "
        f"num_workers=0, each way in a process of its own whose tokenizer has seen no text; not in "
        f"it: imports, and loading the tokenizer ({loading(bench, report)})"
    )


def same_work(report: dict, same: str, **unequal: tuple[str, ...]) -> str:
    """`same`, or in capitals what is not: each of `unequal` with the names of what shows it."""
    for what, names in unequal.items():
        if not all(report[f"{name}_equal"] for name in names):
            return f"NOT THE SAME {what.upper()}: the times compare different work"
    return same


def machine(report: dict) -> str:
    """Cores and versions, in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"{report['cores']} cores, Python {report['python']}, {versions}"


def rows(report: dict) -> dict[str, dict]:
    """Times and ratios of each stage, and of all together."""
    return {**report["stages"], "all": report}


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
    for stage, row in rows(report).items():
        cells = [seconds(row[f"{old}_s"])]
        for way in others:
            cells += [seconds(row[f"{way}_s"]), times(row[ratio_key(way)])]
        style = "bold" if stage == "all" else None
        table.add_row(stage, *cells, style=style, end_section=stage == bench.stages[-1])
    runs = f"medians of {report['repeats']} runs of each in turn; ratios run by run: "
    runs += ", ".join(f"{ratio:.1f}" for ratio in report["ratios"])
    notes = [runs, *bench.notes(report)]
    for module in bench.once:
        notes += module.notes(report[name_of(module)]) if name_of(module) in report else []
    notes = (Padding(Text(note), (0, 0, 0, 1)) for note in [*notes, machine(report)])
    return Group(title, table, *notes)


def bench_figure(bench: Bench, report: dict) -> Any:
    """All times of every stage as bars with their numbers, and all stages together.

    Beside them, where it was measured, the first of what is measured once.
    """
    from llmpipe.classroom.plots.figure import new_figure

    found = report.get(name_of(bench.once[0])) if bench.once else None
    title = f"{bench.title}, {times(report['ratio'])} as fast ({report['dataset']})"
    figure, axes = new_figure(title, ratios=(5, 3) if found else (1,), size=(9, 5))
    _draw_times(axes[0], bench, report)
    note = f"median of {report['repeats']} runs; {machine(report)}"
    figure.supxlabel(note, size=8, x=0.01, ha="left", wrap=True)
    said = [
        f"{stage}: {bench.each(lambda way, row=row: seconds(row[f'{way}_s']))}"
        for stage, row in rows(report).items()
    ]
    if found:
        bench.once[0].draw(axes[1], found)
        said += bench.once[0].notes(found)
    figure.caption = "; ".join(said)
    return figure


def _draw_times(axes: Any, bench: Bench, report: dict) -> None:
    from llmpipe.classroom.plots.colours import BLUE, ORANGE, SKY

    stages, number = rows(report), len(bench.ways)
    styles = zip(bench.ways, (ORANGE, BLUE, SKY), ("//", "", ".."), strict=False)
    for index, (way, colour, hatch) in enumerate(styles):
        shift = (index - (number - 1) / 2) * 0.8 / number
        style = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": bench.label(way)}
        places = [place + shift for place in range(len(stages))]
        values = [row[f"{way}_s"] for row in stages.values()]
        axes.barh(places, values, height=0.76 / number, **style)
        for place, value, row in zip(places, values, stages.values(), strict=True):
            ratio = f", {times(row[ratio_key(way)])} as fast" if index else ""
            axes.text(value, place, f" {seconds(value)}{ratio}", va="center", fontsize=10)
    axes.set_yticks(range(len(stages)), list(stages), fontsize=11)
    axes.invert_yaxis()
    most = max(report[f"{way}_s"] for way in bench.ways)
    axes.set(xlabel="wall time (s)", xlim=(0, 1.12 * most))
    axes.grid(axis="x", color="0.9")
    axes.legend(frameon=False, fontsize=11, loc="upper right")
