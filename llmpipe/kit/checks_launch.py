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
    """Ranks that end when and how a script says: for each, (when, exit code, result).

    Once one has failed the others run for ever, as in a collective that waits for all; only
    `terminate` ends them.
    """

    def __init__(self, script: list[tuple]) -> None:
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
    """Whether a rank failed: a clean exit is not enough, its result must have come."""
    return exitcode != 0 or result is None


def ends(script: list[tuple]) -> list[int]:
    """The ranks that end by themselves, in order: up to the first that fails.

    >>> ends([(2, 0, 7), (0, 0, 7), (1, 3, None)])
    [1, 2]
    """
    order = sorted(range(len(script)), key=lambda rank: script[rank][0])
    failures = [place for place, rank in enumerate(order) if failed(*script[rank][1:])]
    return order[: failures[0] + 1] if failures else order


class RunAll(Exercise):
    """An input is, for each rank, [when it ends, in which of `WAYS`].

    An output is what was returned or raised, and the ranks that were stopped.
    """

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
    # Exit code and result. A shrink goes towards the first, so the plainest of each kind leads.
    WAYS = ((0, 7), (0, 0), (3, None), (-9, None), (0, None), (3, 7))

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
        stopped = [rank for rank, one in enumerate(ranks.processes) if one.was_stopped]
        return {**outcome, "stopped": stopped}

    def failure_of(self, endings: list[list[int]]) -> tuple[int, int] | None:
        """The rank that fails first and its exit code, or None."""
        script = self.script(endings)
        for rank in ends(script)[-1:]:  # no rank ends after the first that fails
            if failed(*script[rank][1:]):
                return rank, script[rank][1]
        return None

    def due(self, endings: list[list[int]]) -> dict:
        script = self.script(endings)
        if failure := self.failure_of(endings):
            running = sorted(set(range(len(script))) - set(ends(script)))
            return {"raised": "rank {}: exit code {}".format(*failure), "stopped": running}
        return {"returned": [result for _, _, result in script], "stopped": []}

    def why(self, endings: list[list[int]]) -> str:
        if not (failure := self.failure_of(endings)):
            return "no rank failed"
        rank, exitcode = failure
        if exitcode < 0:
            return f"signal {-exitcode} killed rank {rank}"
        return f"rank {rank} failed" if exitcode else f"rank {rank} delivered no result"

    def shown(self, endings: list[list[int]]) -> str:
        script, call = self.script(endings), f"{self.name}(processes, wait)"
        ended = [
            f"rank {rank} ends (exit code {script[rank][1]}, result {script[rank][2]})"
            for rank in ends(script)
        ]
        ranks = f"{len(script)} rank{'s' * (len(script) != 1)}"
        return f"{call} of {ranks}" + (f": {', then '.join(ended)}" if ended else "")

    def shown_output(self, value: dict) -> str:
        stopped = f", ranks stopped: {value['stopped']}"
        if "raised" in value:
            return f"RuntimeError: {value['raised']}{stopped}"
        return f"returned {value['returned']!r}{stopped}"
