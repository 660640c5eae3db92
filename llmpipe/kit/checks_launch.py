"""The exercise that repairs a launcher: its ranks are made up, and end as their script says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

from llmpipe.kit.exercise import Exercise, plain


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
    """Ranks that end in the order, and as, a script says: for each, [when, exit code, result].

    Once one has failed the others run for ever, as in a collective that waits for all; only
    `terminate` ends them.
    """

    def __init__(self, script: list[list]) -> None:
        self.script = script
        self.processes = [ScriptedRank() for _ in script]
        self.to_end = ends(script)
        self.told: set[int] = set()

    def wait(self) -> int:
        """The next rank that ends. Raises TimeoutError where none ever would."""
        stopped = [rank for rank, one in enumerate(self.processes) if one.was_stopped]
        for rank in (*stopped, *self.to_end):
            if rank not in self.told:
                self.told.add(rank)
                process = self.processes[rank]
                if process.exitcode is None:
                    _, process.exitcode, process.result = self.script[rank]
                return rank
        raise TimeoutError("wait() would never return: no rank that still runs will end")


def failed(exitcode: int, result: int | None) -> bool:
    return exitcode != 0 or result is None


def ends(script: list[list]) -> list[int]:
    """The ranks that end by themselves, in order: up to the first that fails.

    >>> ends([[2, 0, 5], [0, 0, 5], [1, 3, None]])
    [1, 2]
    """
    order = sorted(range(len(script)), key=lambda rank: script[rank][0])
    failures = [place for place, rank in enumerate(order) if failed(*script[rank][1:])]
    return order[: failures[0] + 1] if failures else order


class RunAll(Exercise):
    """An input is a script. An output is what was returned or raised, and the ranks stopped."""

    name = "run_all"
    signature = "run_all(processes: list, wait) -> list"
    task = (
        "**Exercise 6: lose no failure.** `wait()` blocks until another rank ends, and returns "
        "which; its process then has an `exitcode`, and a `result` or `None`. Repair "
        "`run_all(processes, wait)`: at the first exit code other than 0, or missing result, "
        "`terminate()` the processes still running, which would never end, and raise "
        '`RuntimeError(f"rank {rank}: exit code {exitcode}")`.'
    )
    stub = """def run_all(processes: list, wait) -> list:
    # This launcher loses failures:
    #     for _ in processes:
    #         wait()
    #     return [process.result for process in processes]
    raise NotImplementedError"""
    GOOD = ([0, 7], [0, 0])  # exit code and result
    BAD = ([3, None], [-9, None], [0, None], [3, 7], [-15, 0])

    def inputs(self) -> Iterator[tuple]:
        for num_ranks in range(4):
            for ways in product((*self.GOOD, *self.BAD), repeat=num_ranks):
                for order in permutations(range(num_ranks)):
                    if num_ranks < 3 or sum(failed(*way) for way in ways) < 2:
                        yield ([[when, *way] for when, way in zip(order, ways, strict=True)],)

    def allowed(self, script: list[list]) -> bool:
        if any(len(one) != 3 or one[1] is None for one in script):
            return False
        return len({one[0] for one in script}) == len(script)  # no two at the same time

    def output(self, answer: Any, script: list[list]) -> dict:
        ranks = ScriptedRanks(script)
        try:
            outcome = {"returned": plain(answer(ranks.processes.copy(), ranks.wait))}
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # NotImplementedError is one, too
                raise
            outcome = {"raised": str(error)}
        stopped = [rank for rank, one in enumerate(ranks.processes) if one.was_stopped]
        return {**outcome, "stopped": stopped}

    def due(self, script: list[list]) -> dict:
        last = ends(script)[-1:]
        for rank in last:
            if failed(*script[rank][1:]):
                running = [other for other in range(len(script)) if other not in ends(script)]
                message = f"rank {rank}: exit code {script[rank][1]}"
                return {"raised": message, "stopped": running}
        return {"returned": [result for _, _, result in script], "stopped": []}

    def why(self, script: list[list]) -> str:
        for rank in ends(script)[-1:]:
            _, exitcode, result = script[rank]
            if exitcode < 0:
                return f"a signal killed rank {rank}"
            if failed(exitcode, result):
                return f"rank {rank} failed" if exitcode else f"rank {rank} delivered nothing"
        return "results by rank"

    def shown(self, script: list[list]) -> str:
        endings = [
            f"rank {rank} ends, exit code {script[rank][1]}, result {script[rank][2]}"
            for rank in ends(script)
        ]
        ranks = f"{len(script)} rank{'s' * (len(script) != 1)}"
        return f"{self.name}(processes, wait) of {ranks}" + "".join(f"; {one}" for one in endings)

    def shown_output(self, value: dict) -> str:
        stopped = f", ranks stopped: {value['stopped']}"
        if "raised" in value:
            return f"RuntimeError: {value['raised']}{stopped}"
        return f"returned {value['returned']!r}{stopped}"
