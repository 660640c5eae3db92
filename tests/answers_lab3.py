"""Answers to the exercises of Lab 3: right ones of several styles, and typical wrong ones."""

import math
from collections import Counter
from fractions import Fraction
from itertools import islice

import numpy as np

from llmpipe.sharding.world import contiguous, round_robin

# Right answers, in other styles than the solutions'.


def dealt_by_remainder(items, rank, world_size):
    return [item for index, item in enumerate(items) if index % world_size == rank]


def dealt_by_hands(items, rank, world_size):
    hands = [[] for _ in range(world_size)]
    for index in range(len(items)):
        hands[index % world_size].append(items.pop(0))  # bad manners, not a wrong answer
    return hands[rank]


def dealt_by_islice(items, rank, world_size):
    return tuple(islice(items, rank, None, world_size))


def dealt_by_llmpipe(items, rank, world_size):
    return [items[index] for index in round_robin(len(items), rank, world_size)]


def runs_longer_first(items, rank, world_size):
    size, longer = divmod(len(items), world_size)
    start = rank * size + min(rank, longer)
    return items[start : start + size + (rank < longer)]


def runs_by_numpy(items, rank, world_size):
    return np.array_split(items, world_size)[rank]


def runs_longer_last(items, rank, world_size):
    size, longer = divmod(len(items), world_size)
    num_longer_before = max(0, rank - (world_size - longer))
    start = rank * size + num_longer_before
    return items[start : start + size + (rank >= world_size - longer)]


def runs_by_llmpipe(items, rank, world_size):
    return [items[index] for index in contiguous(len(items), rank, world_size)]


def covered_by_counter(log, num_documents):
    times = Counter(document for _, document in log)
    return {
        "doubled": sorted(one for one, count in times.items() if count > 1),
        "missing": sorted(set(range(num_documents)) - set(times)),
    }


def covered_by_numpy(log, num_documents):
    ids = np.array([document for _, document in log], dtype=int)
    times = np.bincount(ids, minlength=num_documents)
    return {"missing": np.flatnonzero(times == 0), "doubled": np.flatnonzero(times > 1)}


def covered_by_elimination(log, num_documents):
    missing, doubled = list(range(num_documents)), set()
    while log:
        _, document = log.pop()
        if document in missing:
            missing.remove(document)
        else:
            doubled.add(document)
    return dict(missing=missing, doubled=sorted(doubled))  # noqa: C408


def rows_by_rounding_up(num_rows, rank, world_size):
    return max(0, -((rank - num_rows) // world_size))


def rows_by_length_of_a_range(num_rows, rank, world_size):
    return len(range(rank, num_rows, world_size))


def rows_by_last_row(num_rows, rank, world_size):
    if rank >= num_rows:
        return 0
    return (num_rows - 1 - rank) // world_size + 1


def rows_by_numpy(num_rows, rank, world_size):
    return np.int64(num_rows) // world_size + int(rank < num_rows % world_size)


def efficiency_in_two_steps(serial_share, num_ranks, num_cores):
    at_work = num_ranks if num_ranks < num_cores else num_cores
    speed_up = at_work / (serial_share * at_work + 1 - serial_share)
    return speed_up / num_ranks


def efficiency_by_fractions(serial_share, num_ranks, num_cores):
    serial = Fraction(serial_share)
    return float(1 / (num_ranks * (serial + (1 - serial) / min(num_ranks, num_cores))))


def efficiency_by_numpy(serial_share, num_ranks, num_cores):
    shares = np.array([serial_share, 1 - serial_share])
    return 1 / (num_ranks * (shares / [1, np.minimum(num_ranks, num_cores)]).sum())


def runs_until_none_is_left(processes, wait):
    running, results = set(range(len(processes))), {}
    while running:
        rank = wait()
        running.remove(rank)
        results[rank] = processes[rank].result
        if processes[rank].exitcode or results[rank] is None:
            for other in running:
                processes[other].terminate()
            raise RuntimeError(f"rank {rank}: exit code {processes[rank].exitcode}")
    return [results[rank] for rank in sorted(results)]


def runs_and_waits_for_the_stopped(processes, wait):
    failure = None
    for _ in processes:
        rank = wait()
        if failure is None and (processes[rank].exitcode or processes[rank].result is None):
            failure = rank
        if failure == rank:
            for process in processes:
                if process.exitcode is None:
                    process.terminate()
    if failure is not None:
        raise RuntimeError(f"rank {failure}: exit code {processes[failure].exitcode}")
    return tuple(process.result for process in processes)


def runs_and_cleans_up_in_finally(processes, wait):
    def ended_well(rank):
        code = processes[rank].exitcode
        if code == 0 and processes[rank].result is not None:
            return True
        raise RuntimeError(f"rank {rank}: exit code {code}")

    try:
        assert all(ended_well(wait()) for _ in processes)
        return [process.result for process in processes]
    finally:
        for process in processes:
            process.terminate()


RIGHT = {
    "shard_round_robin": [
        dealt_by_remainder,
        dealt_by_hands,
        dealt_by_islice,
        dealt_by_llmpipe,
    ],
    "shard_contiguous": [runs_longer_first, runs_by_numpy, runs_longer_last, runs_by_llmpipe],
    "coverage": [covered_by_counter, covered_by_numpy, covered_by_elimination],
    "rows_of_rank": [
        rows_by_rounding_up,
        rows_by_length_of_a_range,
        rows_by_last_row,
        rows_by_numpy,
    ],
    "predicted_efficiency": [
        efficiency_in_two_steps,
        efficiency_by_fractions,
        efficiency_by_numpy,
    ],
    "run_all": [
        runs_until_none_is_left,
        runs_and_waits_for_the_stopped,
        runs_and_cleans_up_in_finally,
    ],
}

# Wrong answers


def dealt_by_value(items, rank, world_size):
    return [item for item in items if items.index(item) % world_size == rank]


def dealt_in_full_rounds(items, rank, world_size):
    return items[: len(items) - len(items) % world_size][rank::world_size]


def runs_of_one_size(items, rank, world_size):
    size = len(items) // world_size
    return items[rank * size : (rank + 1) * size]


def runs_rest_to_the_last(items, rank, world_size):
    size = len(items) // world_size
    return items[rank * size : (rank + 1) * size if rank < world_size - 1 else None]


def runs_rounded_up(items, rank, world_size):
    size = -(-len(items) // world_size)
    return items[rank * size : (rank + 1) * size]


def runs_that_overlap(items, rank, world_size):
    start, end = rank * len(items) / world_size, (rank + 1) * len(items) / world_size
    return items[int(start) : math.ceil(end)]


def runs_from_the_end(items, rank, world_size):
    return runs_longer_first(items, world_size - 1 - rank, world_size)


def covered_with(missing=None, doubled=None):
    """A coverage that is right but for the given part of it."""

    def answer(log, num_documents):
        right = covered_by_counter(log, num_documents)
        ids = [document for _, document in log]
        return {
            "missing": missing(ids, num_documents) if missing else right["missing"],
            "doubled": doubled(ids, log) if doubled else right["doubled"],
        }

    return answer


def efficiency_of(time=None, at_work=min, out_of=lambda speed_up, num_ranks: speed_up / num_ranks):
    """An efficiency that is right but for the given part of it."""

    def answer(serial_share, num_ranks, num_cores):
        working = at_work(num_ranks, num_cores)
        spent = (time or (lambda s, n: s + (1 - s) / n))(serial_share, working)
        return out_of(1 / spent, num_ranks)

    return answer


def launcher_of_the_stub(processes, wait):
    for _ in processes:
        wait()
    return [process.result for process in processes]


def launcher_with(
    is_failure=lambda process: process.exitcode != 0 or process.result is None,
    stop=lambda processes: [process.terminate() for process in processes],
    message="rank {}: exit code {}",
    error=RuntimeError,
):
    """A launcher that is right but for the given part of it."""

    def answer(processes, wait):
        for _ in processes:
            rank = wait()
            if is_failure(processes[rank]):
                code = processes[rank].exitcode
                stop(processes)
                raise error(message.format(rank, code))
        return [process.result for process in processes]

    return answer


def launcher_that_looks_at_the_end(processes, wait):
    results = launcher_of_the_stub(processes, wait)
    for rank, process in enumerate(processes):
        if process.exitcode != 0 or process.result is None:
            raise RuntimeError(f"rank {rank}: exit code {process.exitcode}")
    return results


def launcher_in_rank_order(processes, wait):
    for rank, process in enumerate(processes):
        wait()
        exitcode = process.exitcode
        if exitcode != 0 or process.result is None:
            for other in processes:
                other.terminate()
            raise RuntimeError(f"rank {rank}: exit code {exitcode}")
    return [process.result for process in processes]


def launcher_that_stops_later_ranks(processes, wait):
    for _ in processes:
        rank = wait()
        if processes[rank].exitcode != 0 or processes[rank].result is None:
            for other in processes[rank + 1 :]:
                other.terminate()
            raise RuntimeError(f"rank {rank}: exit code {processes[rank].exitcode}")
    return [process.result for process in processes]


def launcher_in_order_of_ending(processes, wait):
    results = []
    for _ in processes:
        rank = wait()
        results.append(processes[rank].result)
        if processes[rank].exitcode != 0 or results[-1] is None:
            for other in processes:
                other.terminate()
            raise RuntimeError(f"rank {rank}: exit code {processes[rank].exitcode}")
    return results


def launcher_that_goes_on(processes, wait):
    results = {}
    for _ in processes:
        rank = wait()
        if processes[rank].exitcode == 0 and processes[rank].result is not None:
            results[rank] = processes[rank].result
    return [results[rank] for rank in sorted(results)]


# Each wrong answer: what is wrong with it, the function, the smallest input, came out, was due.
WRONG = {
    "shard_round_robin": [
        (
            "one run each",
            runs_by_llmpipe,
            "(['a'], rank=0, world_size=2)",
            "[]",
            "['a']   (positions [0])",
        ),
        (
            "ranks counted from 1",
            lambda items, rank, world_size: items[rank - 1 :: world_size],
            "(['a'], rank=1, world_size=2)",
            "['a']",
            "[]   (more ranks than items)",
        ),
        (
            "the same for all ranks",
            lambda items, rank, world_size: items[::world_size],
            "(['a'], rank=1, world_size=2)",
            "['a']",
            "[]   (more ranks than items)",
        ),
        (
            "the rank as the step",
            lambda items, rank, world_size: items[rank :: rank + 1],
            "(['a', 'b'], rank=0, world_size=2)",
            "['a', 'b']",
            "['a'] ",
        ),
        (
            "full rounds only",
            dealt_in_full_rounds,
            "(['a'], rank=0, world_size=2)",
            "[]",
            "['a'] ",
        ),
        (
            "positions",
            lambda items, rank, world_size: list(range(rank, len(items), world_size)),
            "(['a'], rank=0, world_size=1)",
            "[0]",
            "['a'] ",
        ),
        (
            "by the place of an equal item",
            dealt_by_value,
            "(['a', 'a'], rank=0, world_size=2)",
            "['a', 'a']",
            "['a'] ",
        ),
        (
            "fails where there are more ranks than items",
            lambda items, rank, world_size: [items[rank], *items[rank + world_size :: world_size]],
            "([], rank=0, world_size=1)",
            "IndexError: list index out of range",
            "[]   (more ranks than items)",
        ),
    ],
    "shard_contiguous": [
        (
            "the rest dropped",
            runs_of_one_size,
            "(['a'], rank, world_size=2)",
            "[[], []]: 'a' is read by no rank",
            "every item once, in order, in runs whose lengths differ by at most one",
        ),
        (
            "the rest to the last rank",
            runs_rest_to_the_last,
            "(['a', 'b'], rank, world_size=3)",
            "[[], [], ['a', 'b']]: lengths [0, 0, 2]",
            "(for example [[], ['a'], ['b']])",
        ),
        (
            "rounded up",
            runs_rounded_up,
            "(['a', 'b', 'c', 'd'], rank, world_size=3)",
            "[['a', 'b'], ['c', 'd'], []]: lengths [2, 2, 0]",
            "(for example [['a'], ['b'], ['c', 'd']])",
        ),
        (
            "runs that overlap",
            runs_that_overlap,
            "(['a'], rank, world_size=2)",
            "[['a'], ['a']]: 'a' is read 2 times",
            "(for example [[], ['a']])",
        ),
        (
            "dealt out",
            dealt_by_remainder,
            "(['a', 'b', 'c'], rank, world_size=2)",
            "[['a', 'c'], ['b']]: not in order",
            "(for example [['a'], ['b', 'c']])",
        ),
        (
            "from the end",
            runs_from_the_end,
            "(['a', 'b'], rank, world_size=2)",
            "[['b'], ['a']]: not in order",
            "(for example [['a'], ['b']])",
        ),
        (
            "positions",
            lambda items, rank, world_size: contiguous(len(items), rank, world_size),
            "(['a'], rank, world_size=1)",
            "[[0]]: 'a' is read by no rank",
            "(for example [['a']])",
        ),
        (
            "divides by zero",
            lambda items, rank, world_size: items[:: len(items) // world_size],
            "([], rank, world_size=1)",
            "ValueError: slice step cannot be zero",
            "(for example [[]])",
        ),
        (
            "a run as one text",
            lambda *a: "".join(runs_by_llmpipe(*a)),
            "([], rank, world_size=1)",
            "rank 0 gets '', not a list",
            "(for example [[]])",
        ),
    ],
    "coverage": [
        (
            "up to the last id that was read",
            covered_with(
                missing=lambda ids, n: [i for i in range(max(ids, default=0)) if i not in ids]
            ),
            "([], num_documents=1)",
            "{'missing': [], 'doubled': []}",
            "{'missing': [0], 'doubled': []}   (times read, by id: [0])",
        ),
        (
            "ids counted from 1",
            covered_with(missing=lambda ids, n: sorted({*range(1, n + 1)} - {*ids})),
            "([], num_documents=1)",
            "{'missing': [1]",
            "{'missing': [0]",
        ),
        (
            "a set",
            covered_with(missing=lambda ids, n: set(range(n)) - set(ids)),
            "([], num_documents=0)",
            "{'missing': set()",
            "{'missing': []",
        ),
        (
            "listed once a reading",
            covered_with(doubled=lambda ids, log: sorted(i for i in ids if ids.count(i) > 1)),
            "([(0, 0), (0, 0)], num_documents=1)",
            "'doubled': [0, 0]}",
            "'doubled': [0]}   (times read, by id: [2])",
        ),
        (
            "by one rank only",
            covered_with(
                doubled=lambda ids, log: sorted({d for r, d in log if log.count((r, d)) > 1})
            ),
            "([(0, 0), (1, 0)], num_documents=1)",
            "'doubled': []}",
            "'doubled': [0]}",
        ),
        (
            "by several ranks only",
            covered_with(
                doubled=lambda ids, log: sorted(
                    i for i, count in Counter(d for _, d in set(log)).items() if count > 1
                )
            ),
            "([(0, 0), (0, 0)], num_documents=1)",
            "'doubled': []}",
            "'doubled': [0]}",
        ),
        (
            "exactly twice",
            covered_with(doubled=lambda ids, log: sorted({i for i in ids if ids.count(i) == 2})),
            "([(0, 0), (0, 0), (0, 0)], num_documents=1)",
            "'doubled': []}",
            "'doubled': [0]}   (times read, by id: [3])",
        ),
        (
            "in the order of the log",
            covered_with(doubled=lambda ids, log: [i for i, n in Counter(ids).items() if n > 1]),
            "([(0, 3), (0, 3), (0, 1), (0, 1)], num_documents=4)",
            "'doubled': [3, 1]}",
            "'doubled': [1, 3]}",
        ),
        (
            "the rank for the document",
            lambda log, n: covered_by_counter([(document, rank) for rank, document in log], n),
            "([(1, 0)], num_documents=1)",
            "'missing': [0]",
            "'missing': []",
        ),
        (
            "only a verdict",
            lambda log, num_documents: len(log) == num_documents,
            "([], num_documents=0)",
            "True",
            "{'missing': [], 'doubled': []}",
        ),
    ],
    "rows_of_rank": [
        (
            "full rounds only",
            lambda num_rows, rank, world_size: num_rows // world_size,
            "(1, rank=0, world_size=2)",
            "0",
            "1   (rows [0])",
        ),
        (
            "rounded up for all",
            lambda num_rows, rank, world_size: -(-num_rows // world_size),
            "(1, rank=1, world_size=2)",
            "1",
            "0   (rows [])",
        ),
        (
            "the rest to the last rank",
            lambda n, rank, size: n // size + (n % size if rank == size - 1 else 0),
            "(1, rank=0, world_size=2)",
            "0",
            "1   (rows [0])",
        ),
        (
            "up to the rest, and not below it",
            lambda num_rows, rank, size: num_rows // size + (rank <= num_rows % size),
            "(0, rank=0, world_size=1)",
            "1",
            "0   (rows [])",
        ),
        (
            "a run's length",
            lambda num_rows, rank, world_size: len(contiguous(num_rows, rank, world_size)),
            "(1, rank=0, world_size=2)",
            "0",
            "1   (rows [0])",
        ),
        (
            "below zero",
            lambda num_rows, rank, world_size: (
                (num_rows - rank - 1) // world_size + 1 - (not num_rows)
            ),
            "(0, rank=0, world_size=1)",
            "-1",
            "0   (rows [])",
        ),
        (
            "rounded as a float",
            lambda num_rows, rank, world_size: math.ceil((num_rows - rank) / world_size),
            "(1_000_000_000_000_000_001, rank=0, world_size=1)",
            "1_000_000_000_000_000_000",
            "1_000_000_000_000_000_001   (full rounds: 1_000_000_000_000_000_001, rows",
        ),
        (
            "a list of the rows",
            lambda num_rows, rank, world_size: len(list(range(rank, num_rows, world_size))),
            "(1_000_000_000_000_000_001, rank=0, world_size=1)",
            "MemoryError",
            "1_000_000_000_000_000_001 ",
        ),
        (
            "a fraction",
            lambda num_rows, rank, world_size: num_rows / world_size,
            "(0, rank=0, world_size=1)",
            "0.0",
            "0   (rows [])",
        ),
    ],
    "predicted_efficiency": [
        (
            "the speed-up",
            efficiency_of(out_of=lambda speed_up, num_ranks: speed_up),
            "(0.0, num_ranks=2, num_cores=1)",
            "1.0",
            "0.5   (ranks at work: 1, time: 1, speed-up: 1)",
        ),
        (
            "cores without end",
            efficiency_of(at_work=lambda num_ranks, num_cores: num_ranks),
            "(0.0, num_ranks=2, num_cores=1)",
            "1.0",
            "0.5   (ranks at work: 1, time: 1, speed-up: 1)",
        ),
        (
            "the share turned around",
            efficiency_of(time=lambda serial, n: 1 - serial + serial / n),
            "(0.0, num_ranks=2, num_cores=2)",
            "0.5",
            "1.0   (ranks at work: 2, time: 0.5, speed-up: 2)",
        ),
        (
            "the serial share left out",
            efficiency_of(time=lambda serial, n: 1 / n),
            "(0.5, num_ranks=2, num_cores=2)",
            "1.0",
            "0.66666",
        ),
        (
            "the serial part is divided, too",
            efficiency_of(time=lambda serial, n: (serial + 1) / n),
            "(0.5, num_ranks=1, num_cores=1)",
            "0.66666",
            "1.0   (ranks at work: 1, time: 1, speed-up: 1)",
        ),
        (
            "by the ranks at work",
            lambda s, ranks, cores: efficiency_in_two_steps(s, min(ranks, cores), cores),
            "(0.0, num_ranks=2, num_cores=1)",
            "1.0",
            "0.5 ",
        ),
        (
            "the time",
            efficiency_of(out_of=lambda speed_up, num_ranks: 1 / speed_up),
            "(0.0, num_ranks=2, num_cores=1)",
            "1.0",
            "0.5 ",
        ),
        (
            "all cores at work",
            efficiency_of(at_work=lambda num_ranks, num_cores: num_cores),
            "(0.0, num_ranks=1, num_cores=2)",
            "2.0",
            "1.0 ",
        ),
        (
            "two digits",
            lambda *a: round(efficiency_in_two_steps(*a), 2),
            "(0.5, num_ranks=2, num_cores=2)",
            "0.67",
            "0.66666",
        ),
    ],
    "run_all": [
        (
            "the stub's launcher",
            launcher_of_the_stub,
            "of 1 rank: rank 0 ends (exit code 3, result None)",
            "returned [None], ranks stopped: []",
            "RuntimeError: rank 0: exit code 3, ranks stopped: []   (rank 0 failed)",
        ),
        (
            "signals overlooked",
            launcher_with(lambda p: p.exitcode > 0 or (p.exitcode == 0 and p.result is None)),
            "of 1 rank: rank 0 ends (exit code -9, result None)",
            "returned [None], ranks stopped: []",
            "RuntimeError: rank 0: exit code -9, ranks stopped: []   (signal 9 killed rank 0)",
        ),
        (
            "a missing result overlooked",
            launcher_with(lambda process: process.exitcode != 0),
            "of 1 rank: rank 0 ends (exit code 0, result None)",
            "returned [None], ranks stopped: []",
            "RuntimeError: rank 0: exit code 0, ranks stopped: []   (rank 0 delivered no result)",
        ),
        (
            "only the result looked at",
            launcher_with(lambda process: process.result is None),
            "of 1 rank: rank 0 ends (exit code 3, result 7)",
            "returned [7], ranks stopped: []",
            "RuntimeError: rank 0: exit code 3, ranks stopped: []   (rank 0 failed)",
        ),
        (
            "a result of 0 taken for none",
            launcher_with(lambda process: process.exitcode != 0 or not process.result),
            "of 1 rank: rank 0 ends (exit code 0, result 0)",
            "RuntimeError: rank 0: exit code 0, ranks stopped: []",
            "returned [0], ranks stopped: []   (no rank failed)",
        ),
        (
            "looks at the end only",
            launcher_that_looks_at_the_end,
            "of 2 ranks: rank 1 ends (exit code 3, result None)",
            "TimeoutError: wait() would never return: no rank that still runs will end",
            "RuntimeError: rank 1: exit code 3, ranks stopped: [0]   (rank 1 failed)",
        ),
        (
            "the others left running",
            launcher_with(stop=lambda processes: None),
            "of 2 ranks: rank 1 ends (exit code 3, result None)",
            "RuntimeError: rank 1: exit code 3, ranks stopped: []",
            "RuntimeError: rank 1: exit code 3, ranks stopped: [0]   (rank 1 failed)",
        ),
        (
            "ranks before it left running",
            launcher_that_stops_later_ranks,
            "of 2 ranks: rank 1 ends (exit code 3, result None)",
            "RuntimeError: rank 1: exit code 3, ranks stopped: []",
            "RuntimeError: rank 1: exit code 3, ranks stopped: [0]   (rank 1 failed)",
        ),
        (
            "taken to end in rank order",
            launcher_in_rank_order,
            "rank 1 ends (exit code 0, result 7), then rank 0 ends (exit code 0, result 7)",
            "RuntimeError: rank 0: exit code None, ranks stopped: [0]",
            "returned [7, 7], ranks stopped: []   (no rank failed)",
        ),
        (
            "results in the order of ending",
            launcher_in_order_of_ending,
            "rank 1 ends (exit code 0, result 0), then rank 0 ends (exit code 0, result 7)",
            "returned [0, 7], ranks stopped: []",
            "returned [7, 0], ranks stopped: []   (no rank failed)",
        ),
        (
            "failed ranks left out",
            launcher_that_goes_on,
            "of 1 rank: rank 0 ends (exit code 3, result None)",
            "returned []",
            "RuntimeError: rank 0: exit code 3",
        ),
        (
            "a message of its own",
            launcher_with(message="rank {} failed with {}"),
            "of 1 rank: rank 0 ends (exit code 3, result None)",
            "RuntimeError: rank 0 failed with 3",
            "RuntimeError: rank 0: exit code 3",
        ),
        (
            "another error",
            launcher_with(error=ValueError),
            "of 1 rank: rank 0 ends (exit code 3, result None)",
            "ValueError: rank 0: exit code 3",
            "RuntimeError: rank 0: exit code 3",
        ),
        (
            "stops ranks before they have ended",
            lambda processes, wait: [p.terminate() or p.result for p in processes],
            "of 1 rank: rank 0 ends (exit code 0, result 7)",
            "returned [None], ranks stopped: [0]",
            "returned [7], ranks stopped: []   (no rank failed)",
        ),
    ],
}
