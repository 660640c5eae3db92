"""The exercises of Lab 3: who reads what, the proof of it, and what more ranks can bring."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

from llmpipe.kit.checks_launch import RunAll
from llmpipe.kit.checks_shards import ShardContiguous, ShardRoundRobin
from llmpipe.kit.exercise import Exercise


class Coverage(Exercise):
    """A log is a list of [rank, document id]; the student's holds tuples."""

    name = "coverage"
    signature = "coverage(log: list[tuple[int, int]], num_documents: int) -> dict[str, list[int]]"
    task = (
        "**Exercise 3: prove it.** Documents have the ids 0 to `num_documents - 1`. `log` has a "
        "pair `(rank, document id)` for every time a rank read one, in any order. Write "
        '`coverage(log, num_documents)`: a dict of two ascending lists of ids, `"missing"`, which '
        'nobody read, and `"doubled"`, read more than once, be it by one rank or several.'
    )

    def inputs(self) -> Iterator[tuple]:
        for num_documents in range(4):
            pairs = list(product(range(2), range(num_documents)))
            for count in range(4):
                for log in product(pairs, repeat=count):
                    yield [list(pair) for pair in log], num_documents
        chooser = random.Random(0)
        for num_documents in range(4, 40):
            ids = chooser.choices(range(num_documents), k=num_documents)
            yield [[chooser.randrange(4), one] for one in ids], num_documents

    def allowed(self, log: list[list[int]], num_documents: int) -> bool:
        return all(len(pair) == 2 and pair[1] < num_documents for pair in log)

    def arguments(self, log: list[list[int]], num_documents: int) -> tuple:
        return [tuple(pair) for pair in log], num_documents

    def times_read(self, log: list[list[int]], num_documents: int) -> list[int]:
        times = Counter(document for _, document in log)
        return [times[document] for document in range(num_documents)]

    def due(self, log: list[list[int]], num_documents: int) -> dict[str, list[int]]:
        times = self.times_read(log, num_documents)
        return {
            "missing": [document for document, count in enumerate(times) if count == 0],
            "doubled": [document for document, count in enumerate(times) if count > 1],
        }

    def why(self, log: list[list[int]], num_documents: int) -> str:
        if num_documents > 12:
            return f"documents: {num_documents}, times read in all: {len(log)}"
        return f"times read, by id: {self.times_read(log, num_documents)}"

    def shown(self, log: list[list[int]], num_documents: int) -> str:
        pairs, _ = self.arguments(log, num_documents)
        return f"{self.name}({pairs}, num_documents={num_documents})"


class RowsOfRank(Exercise):
    name = "rows_of_rank"
    signature = "rows_of_rank(num_rows: int, rank: int, world_size: int) -> int"
    task = (
        "**Exercise 4: how many, without counting.** Rows 0 to `num_rows - 1` are dealt "
        "round-robin, row 0 to rank 0. Write `rows_of_rank(num_rows, rank, world_size)`: how many "
        "rows the rank gets. Numbers go up to 10^18 and beyond, so that no loop would end, and "
        "the result must be exact: a float holds about 16 digits only."
    )
    # So large that a list of the rows is refused at once, and a float is not exact.
    LARGE = (10**18 + 1, 2 * 10**18 + 3)
    MOST_SMALL = 12

    def inputs(self) -> Iterator[tuple]:
        for num_rows in (*range(self.MOST_SMALL + 1), *self.LARGE):
            for world_size in (1, 2, 3, 4, 5, 7):
                for rank in range(world_size):
                    yield num_rows, rank, world_size

    def allowed(self, num_rows: int, rank: int, world_size: int) -> bool:
        # Between small and large, a shrink would go down one by one.
        in_reach = num_rows <= self.MOST_SMALL or num_rows in self.LARGE
        return in_reach and rank < world_size

    def due(self, num_rows: int, rank: int, world_size: int) -> int:
        return len(range(rank, num_rows, world_size))

    def why(self, num_rows: int, rank: int, world_size: int) -> str:
        if num_rows <= self.MOST_SMALL:
            return f"rows {list(range(rank, num_rows, world_size))}"
        return f"full rounds: {num_rows // world_size:_}, rows after them: {num_rows % world_size}"

    def shown(self, num_rows: int, rank: int, world_size: int) -> str:
        return f"{self.name}({num_rows:_}, rank={rank}, world_size={world_size})"

    def shown_output(self, value: Any) -> str:
        return f"{value:_}" if type(value) is int else repr(value)


class PredictedEfficiency(Exercise):
    name = "predicted_efficiency"
    signature = "predicted_efficiency(serial_share: float, num_ranks: int, num_cores: int) -> float"
    task = (
        "**Exercise 5: what more ranks can bring.** Of the time on one rank, `serial_share` stays "
        "however many there are; the rest is divided by the ranks at work, never more than "
        "`num_cores`. Speed-up is the time on one rank divided by the time on all, efficiency the "
        "speed-up divided by `num_ranks`. Write "
        "`predicted_efficiency(serial_share, num_ranks, num_cores)`."
    )

    def inputs(self) -> Iterator[tuple]:
        for num_ranks, num_cores in sorted(product(range(1, 9), repeat=2), key=sum):
            for serial_share in (0.0, 0.5, 0.25, 1.0):
                yield serial_share, num_ranks, num_cores
        yield 0.1, 1000, 64

    def allowed(self, serial_share: float, num_ranks: int, num_cores: int) -> bool:
        return num_ranks >= 1 and num_cores >= 1

    def time(self, serial_share: float, num_ranks: int, num_cores: int) -> float:
        return serial_share + (1 - serial_share) / min(num_ranks, num_cores)

    def due(self, serial_share: float, num_ranks: int, num_cores: int) -> float:
        return 1 / self.time(serial_share, num_ranks, num_cores) / num_ranks

    def why(self, serial_share: float, num_ranks: int, num_cores: int) -> str:
        time = self.time(serial_share, num_ranks, num_cores)
        at_work = min(num_ranks, num_cores)
        return f"ranks at work: {at_work}, time: {time:g}, speed-up: {1 / time:g}"

    def shown(self, serial_share: float, num_ranks: int, num_cores: int) -> str:
        return f"{self.name}({serial_share}, num_ranks={num_ranks}, num_cores={num_cores})"


EXERCISES = (
    ShardRoundRobin(),
    ShardContiguous(),
    Coverage(),
    RowsOfRank(),
    PredictedEfficiency(),
    RunAll(),
)
