"""The exercise that reads a rate out of a log: lines of the live monitor, and others between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise, product

from llmpipe.kit.exercise import Exercise

EXAMPLE = (  # a line of the live monitor
    "2026-11-25T10:00:01.250 step 20 tokens 20480 documents 161 memory_bytes 310378496"
)


class TokensPerS(Exercise):
    """An input is a list of entries, and the index of the time at which they start.

    An entry is [quarters of a second since then, tokens] or [..., ..., documents], for a line of
    the monitor, or the text of another line.
    """

    name = "tokens_per_s"
    signature = "tokens_per_s(lines: list[str]) -> float"
    task = (
        "**Exercise 5: a rate from a log.** A monitor line tells totals so far; `documents` may be "
        f"missing:\n`{EXAMPLE}`\n"
        "Write `tokens_per_s(lines)`: tokens between first and last such line, by the seconds "
        "between them; 0.0 without two lines or time between. Other lines, some empty, lack "
        "the second word `step`."
    )
    STARTS = (
        "2026-11-25T10:00:00",
        "2026-11-25T10:59:59",
        "2026-11-25T23:59:59",
        "2026-12-31T23:59:59",
    )
    OTHERS = (
        "",
        "train",
        "2026-11-25T10:00:00.500 epoch 1 of 3",
        "Token indices sequence length is longer than the maximum (1100 > 1024)",
        "saved after step 20",
    )

    def inputs(self) -> Iterator[tuple]:
        yield [], 0
        for other in self.OTHERS:
            yield [other], 0
        for tokens, num_ticks, more, start in product(
            (0, 8), (4, 0, 1, 10), (0, 1, 20), range(len(self.STARTS))
        ):
            first, last = [2, tokens], [2 + num_ticks, tokens + more, 3]
            yield [first], start
            yield [first, last], start
            for other in self.OTHERS:
                yield [other, first, other, last, other], start
        chooser = random.Random(0)
        for count in range(3, 40):
            yield self._some_lines(chooser, count), chooser.randrange(len(self.STARTS))

    def _some_lines(self, chooser: random.Random, count: int) -> list:
        ticks = sorted(chooser.choices(range(400), k=count))
        tokens = sorted(chooser.choices(range(400), k=count))
        lines = [list(pair) for pair in zip(ticks, tokens, strict=True)]
        return [chooser.choice((line, [*line, 7], chooser.choice(self.OTHERS))) for line in lines]

    def monitored(self, entries: list) -> list[list[int]]:
        return [entry for entry in entries if isinstance(entry, list)]

    def allowed(self, entries: list, start: int) -> bool:
        lines, others = self.monitored(entries), [one for one in entries if isinstance(one, str)]
        if any(len(line) not in (2, 3) for line in lines) or not 0 <= start < len(self.STARTS):
            return False
        ascend = all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(lines))
        return ascend and all(other.split()[1:2] != ["step"] for other in others)

    def due(self, entries: list, start: int) -> float:
        seconds, tokens = self._between(entries)
        return tokens / seconds if seconds else 0.0

    def _between(self, entries: list) -> tuple[float, int]:
        lines = self.monitored(entries) or [[0, 0]]
        return (lines[-1][0] - lines[0][0]) / 4, lines[-1][1] - lines[0][1]

    def why(self, entries: list, start: int) -> str:
        seconds, tokens = self._between(entries)
        return f"monitor lines: {len(self.monitored(entries))}, tokens: {tokens} in {seconds:g} s"

    def arguments(self, entries: list, start: int) -> tuple:
        return ([self._line(step, entry, start) for step, entry in enumerate(entries)],)

    def _line(self, step: int, entry: list | str, start: int) -> str:
        if isinstance(entry, str):
            return entry
        ticks, tokens, *documents = entry
        time = datetime.fromisoformat(self.STARTS[start]) + timedelta(seconds=ticks / 4)
        known = "".join(f" documents {count}" for count in documents)
        stamp = time.isoformat(timespec="milliseconds")
        return f"{stamp} step {step} tokens {tokens}{known} memory_bytes 310378496"

    def shown(self, entries: list, start: int) -> str:
        return f"{self.name}({self.arguments(entries, start)[0]})"
