"""The exercises of Lab 3: who reads what, the proof of it, and what more ranks can bring."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import permutations, product
from string import ascii_lowercase
from typing import Any

from llmpipe.classroom.exercises.exercise import Exercise, alike, plain
from llmpipe.classroom.exercises.shared import ShardsExercise, said_times


class ShardRoundRobin(Exercise):
    """**Exercise 1: one at a time.** Write `shard_round_robin(items, rank, world_size)`: the list
    of items that rank `rank` reads when they are distributed round-robin, one to each rank,
    beginning at rank 0 and again from there after the last. Ranks that get no item have an empty
    list. Two items may be equal.
    """

    signature = "shard_round_robin(items: list, rank: int, world_size: int) -> list"

    def inputs(self) -> Iterator[tuple]:
        for count, world_size in product(range(8), range(1, 6)):
            for rank in range(world_size):
                yield list(ascii_lowercase[:count]), rank, world_size
        for count, world_size in product(range(2, 8), range(2, 5)):
            for rank in range(world_size):
                yield ["a"] * count, rank, world_size

    def allowed(self, items: list[str], rank: int, world_size: int) -> bool:
        return rank < world_size and all(items)

    def due(self, items: list[str], rank: int, world_size: int) -> tuple[list[str], str]:
        positions = [index for index in range(len(items)) if index % world_size == rank]
        why = f"positions {positions}" if positions else "more ranks than items"
        return [items[index] for index in positions], why


class ShardContiguous(ShardsExercise):
    """**Exercise 2: one run each.** Write `shard_contiguous(items, rank, world_size)`: each rank
    reads one run of neighbours. Joined from rank 0 on, the runs are `items`: none is lost,
    duplicated or moved. Their lengths differ by at most one; which ranks have the longer runs, or
    none where items are few, is up to you.
    """

    signature = "shard_contiguous(items: list, rank: int, world_size: int) -> list"
    promise = "every item once, in order, in runs whose lengths differ by at most one"

    def inputs(self) -> Iterator[tuple]:
        sizes = sorted(product(range(11), range(1, 8)), key=sum)
        for count, world_size in sizes:
            yield list(ascii_lowercase[:count]), world_size

    def allowed(self, items: list[str], world_size: int) -> bool:
        return all(items)

    def fault(self, shards: list[list], items: list[str]) -> str | None:
        joined = [item for shard in shards for item in shard]
        lengths = [len(shard) for shard in shards]
        if alike(joined, items):
            return f"lengths {lengths}" if max(lengths) - min(lengths) > 1 else None
        for item in items:
            if joined.count(item) != 1:
                return said_times(repr(item), joined.count(item))
        return "not in order"

    def example(self, items: list[str], world_size: int) -> list[list]:
        cuts = [rank * len(items) // world_size for rank in range(world_size + 1)]
        return [items[cuts[rank] : cuts[rank + 1]] for rank in range(world_size)]


class Coverage(Exercise):
    """**Exercise 3: prove it.** Documents have the ids 0 to `num_documents - 1`. `log` has a pair
    `(rank, document id)` for every time a rank read one, in any order. Write `coverage(log,
    num_documents)`: a dict of two ascending lists of ids, `"missing"`, which nobody read, and
    `"duplicated"`, read more than once, be it by one rank or several.
    """

    signature = "coverage(log: list[tuple[int, int]], num_documents: int) -> dict[str, list[int]]"

    # A log is a list of [rank, document id]; the student's holds tuples.
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

    def due(self, log: list[list[int]], num_documents: int) -> tuple[dict[str, list[int]], str]:
        counts = Counter(document for _, document in log)
        times = [counts[document] for document in range(num_documents)]
        covered = {
            "missing": [document for document, count in enumerate(times) if count == 0],
            "duplicated": [document for document, count in enumerate(times) if count > 1],
        }
        if num_documents > 12:
            return covered, f"documents: {num_documents}, times read in all: {len(log)}"
        return covered, f"times read, by id: {times}"


class RowsOfRank(Exercise):
    """**Exercise 4: how many, without counting.** Rows 0 to `num_rows - 1` are distributed
    round-robin, row 0 to rank 0. Write `rows_of_rank(num_rows, rank, world_size)`: how many rows
    the rank gets. Numbers go up to 10^18 and beyond, so that no loop would end, and the result
    must be exact: a float holds about 16 digits only.
    """

    signature = "rows_of_rank(num_rows: int, rank: int, world_size: int) -> int"
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

    def due(self, num_rows: int, rank: int, world_size: int) -> tuple[int, str]:
        rows = range(rank, num_rows, world_size)
        if num_rows <= self.MOST_SMALL:
            return len(rows), f"rows {list(rows)}"
        full, after = divmod(num_rows, world_size)
        return len(rows), f"full rounds: {full:_}, rows after them: {after}"

    def shown_first(self, value: int) -> str:
        return f"{value:_}"

    def shown_output(self, value: Any) -> str:
        return f"{value:_}" if type(value) is int else repr(value)


class PredictedEfficiency(Exercise):
    """**Exercise 5: what more ranks can bring.** Of the time on one rank, `serial_share` stays
    however many there are; the rest is divided by the ranks at work, never more than `num_cores`.
    Speed-up is the time on one rank divided by the time on all, efficiency the speed-up divided by
    `num_ranks`. Write `predicted_efficiency(serial_share, num_ranks, num_cores)`.
    """

    signature = "predicted_efficiency(serial_share: float, num_ranks: int, num_cores: int) -> float"

    def inputs(self) -> Iterator[tuple]:
        for num_ranks, num_cores in sorted(product(range(1, 9), repeat=2), key=sum):
            for serial_share in (0.0, 0.5, 0.25, 1.0):
                yield serial_share, num_ranks, num_cores
        yield 0.1, 1000, 64

    def due(self, serial_share: float, num_ranks: int, num_cores: int) -> tuple[float, str]:
        at_work = min(num_ranks, num_cores)
        time = serial_share + (1 - serial_share) / at_work
        why = f"ranks at work: {at_work}, time: {time:g}, speed-up: {1 / time:g}"
        return 1 / time / num_ranks, why


class ScriptedRank:
    """What a launcher sees of a process: `exitcode`, `result` and `terminate`, as it ends."""

    def __init__(self) -> None:
        self.exitcode: int | None = None  # as of a process: None while it runs
        self.result: int | None = None
        self.was_stopped = False

    def terminate(self) -> None:
        if self.exitcode is None:
            self.exitcode, self.was_stopped = -15, True


class ScriptedRanks:
    """Ranks that end when and how a script says: for each, (when, exit code, result).

    Once one has failed the others run for ever, as in a collective that waits for all; only
    `terminate` ends them.
    """

    def __init__(self, script: list[tuple]) -> None:
        self.script, self.told = script, set()
        self.processes = [ScriptedRank() for _ in script]

    def wait(self) -> int:
        """The next rank that ends. Raises TimeoutError where none ever would."""
        ended, _ = ends(self.script)
        for rank in (*self.stopped, *ended):
            if rank not in self.told:
                self.told.add(rank)
                process = self.processes[rank]
                if process.exitcode is None:
                    _, process.exitcode, process.result = self.script[rank]
                return rank
        raise TimeoutError("wait() would never return: no rank that still runs will end")

    @property
    def stopped(self) -> list[int]:
        """The ranks that were terminated while they ran."""
        return [rank for rank, one in enumerate(self.processes) if one.was_stopped]


def ends(script: list[tuple]) -> tuple[list[int], int | None]:
    """The ranks that end by themselves, in order, up to the first that fails; and which that is.

    A clean exit is not enough: the rank's result must have come.

    >>> ends([(2, 0, 7), (0, 0, 7), (1, 3, None)])
    ([1, 2], 2)
    """
    ended = []
    for rank in sorted(range(len(script)), key=lambda rank: script[rank][0]):
        ended.append(rank)
        _, exitcode, result = script[rank]
        if exitcode != 0 or result is None:
            return ended, rank
    return ended, None


class RunAll(Exercise):
    """**Exercise 6: lose no failure.** `wait()` blocks until another rank ends, and returns which;
    its process then has an `exitcode`, and a `result` or `None`. Repair `run_all(processes,
    wait)`: at the first exit code other than 0, or missing result, `terminate()` the processes
    still running, which would never end, and raise `RuntimeError(f"rank {rank}: exit code
    {exitcode}")`.
    """

    signature = "run_all(processes: list, wait) -> list"
    stub = """def run_all(processes: list, wait) -> list:
    # This launcher loses failures:
    #     for _ in processes:
    #         wait()
    #     return [process.result for process in processes]
    raise NotImplementedError"""
    # Exit code and result. A shrink goes towards the first, so the plainest of each kind leads.
    WAYS = ((0, 7), (0, 0), (3, None), (-9, None), (0, None), (3, 7))

    # An input is, for each rank, [when it ends, in which of `WAYS`]. An output is what was
    # returned or raised, and the ranks that were stopped.
    def inputs(self) -> Iterator[tuple]:
        for num_ranks in range(4):
            for ways in product(range(len(self.WAYS)), repeat=num_ranks):
                for order in permutations(range(num_ranks)):
                    yield ([list(pair) for pair in zip(order, ways, strict=True)],)

    def allowed(self, endings: list[list[int]]) -> bool:
        whole = all(len(ending) == 2 for ending in endings)
        return whole and len({when for when, _ in endings}) == len(endings)  # one at a time

    def script(self, endings: list[list[int]]) -> list[tuple]:
        return [(when, *self.WAYS[way]) for when, way in endings]

    def output(self, answer: Any, endings: list[list[int]]) -> dict:
        ranks = ScriptedRanks(self.script(endings))
        try:
            outcome = {"returned": plain(answer(ranks.processes.copy(), ranks.wait))}
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # NotImplementedError is one, too
                raise
            outcome = {"raised": str(error)}
        return {**outcome, "stopped": ranks.stopped}

    def due(self, endings: list[list[int]]) -> tuple[dict, str]:
        script = self.script(endings)
        ended, failed = ends(script)
        if failed is None:
            returned = [result for _, _, result in script]
            return {"returned": returned, "stopped": []}, "no rank failed"
        exitcode = script[failed][1]
        running = sorted(set(range(len(script))) - set(ended))
        due = {"raised": f"rank {failed}: exit code {exitcode}", "stopped": running}
        if exitcode < 0:
            return due, f"signal {-exitcode} killed rank {failed}"
        return due, f"rank {failed} {'failed' if exitcode else 'delivered no result'}"

    def shown(self, endings: list[list[int]]) -> str:
        script = self.script(endings)
        ended = ", then ".join(
            f"rank {rank} ends (exit code {script[rank][1]}, result {script[rank][2]})"
            for rank in ends(script)[0]
        )
        ranks = f"{len(script)} rank{'s' * (len(script) != 1)}"
        return f"{self.name}(processes, wait) of {ranks}" + (f": {ended}" if ended else "")

    def shown_output(self, value: dict) -> str:
        stopped = f", ranks stopped: {value['stopped']}"
        if "raised" in value:
            return f"RuntimeError: {value['raised']}{stopped}"
        return f"returned {value['returned']!r}{stopped}"


EXERCISES = (
    ShardRoundRobin(),
    ShardContiguous(),
    Coverage(),
    RowsOfRank(),
    PredictedEfficiency(),
    RunAll(),
)
