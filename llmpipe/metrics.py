"""Throughput and memory meters, and the card that reports them honestly."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any


class Meter:
    """Counts things and the wall time they took.

    The clock starts with the meter, or with `start()`. `warm_up` leaves the first calls of `add`
    out of the rate, as the card then says; the totals hold everything.

    >>> clock = iter([0.0, 10.0, 12.0]).__next__
    >>> meter = Meter(warm_up=1, clock=clock)
    >>> meter.add(tokens=5); meter.add(tokens=100)
    >>> meter.totals, meter.rate("tokens")
    ({'tokens': 105}, 50.0)
    """

    def __init__(self, warm_up: int = 0, clock: Any = time.perf_counter) -> None:
        self.warm_up, self._clock = warm_up, clock
        self.totals: dict[str, int] = {}
        self.start()

    def start(self) -> None:
        """Start anew, everything at zero."""
        self.totals = {}
        self._at_warm = dict(self.totals)
        self._calls = 0
        self._started = self._warm = self._last = self._clock()

    def add(self, **counts: int) -> None:
        """Count, for example `add(tokens=512, batches=1)`."""
        for name, count in counts.items():
            self.totals[name] = self.totals.get(name, 0) + int(count)
        self._calls += 1
        self._last = self._clock()
        if self._calls == self.warm_up:
            self._warm, self._at_warm = self._last, dict(self.totals)

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the last `add`, warm-up included."""
        return self._last - self._started

    def rate(self, name: str) -> float:
        """`name` per second of wall time after the warm-up; 0 where nothing was counted since."""
        counted = self.totals.get(name, 0) - self._at_warm.get(name, 0)
        seconds = self._last - self._warm
        return counted / seconds if seconds > 0 else 0.0


def resident_bytes() -> int:
    """Memory of this process that lies in RAM now, in bytes."""
    return _process(os.getpid()).memory_info().rss


@cache
def _process(pid: int) -> Any:
    import psutil

    return psutil.Process(pid)


def usable_cores() -> int:
    """Cores this process may use; a container or `taskset` can make them fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def card(title: str, figures: Mapping[str, Any]) -> str:
    """A box of figures, one a line.

    >>> print(card("Run", {"rows": 1200}))
    Run
    -----------
    rows  1,200
    """
    width = max([len(name) for name in figures], default=0)
    lines = [f"{name.ljust(width)}  {_shown(value)}" for name, value in figures.items()]
    return "\n".join([title, "-" * max(map(len, [title, *lines])), *lines])


def table(rows: list[Mapping[str, Any]]) -> str:
    """Rows of the same keys as aligned columns under their names; numbers to the right.

    >>> print(table([{"rank": 0, "tokens": 1200}]))
    rank  tokens
       0   1,200
    """
    if not rows:
        return ""
    columns = []
    for name in rows[0]:
        cells = [name, *(_shown(row[name]) for row in rows)]
        width = max(map(len, cells))
        text = isinstance(rows[0][name], str)
        columns.append([cell.ljust(width) if text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _shown(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
