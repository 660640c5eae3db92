"""Answers to the exercises of Lab 3: right ones of several styles, and typical wrong ones."""

import math
from collections import Counter
from fractions import Fraction
from itertools import islice

import numpy as np
from answers import answers_to

from llmpipe.sharding.world import contiguous, round_robin

right, wrong = answers_to("shard_round_robin")


@right
def round_robin_by_remainder(items, rank, world_size):
    return [item for index, item in enumerate(items) if index % world_size == rank]


@right
def round_robin_by_lists(items, rank, world_size):
    lists = [[] for _ in range(world_size)]
    for index in range(len(items)):
        lists[index % world_size].append(items.pop(0))  # bad manners, not a wrong answer
    return lists[rank]


@right
def round_robin_by_islice(items, rank, world_size):
    return tuple(islice(items, rank, None, world_size))


@right
def round_robin_by_llmpipe(items, rank, world_size):
    return [items[index] for index in round_robin(len(items), rank, world_size)]


wrong("(['a'], rank=0, world_size=2)", "[]", "['a']   (positions [0])")(  # one run each
    lambda *items_and_place: runs_by_llmpipe(*items_and_place)
)
# Ranks counted from 1.
wrong("(['a'], rank=1, world_size=2)", "['a']", "[]   (more ranks than items)")(
    lambda items, rank, world_size: items[rank - 1 :: world_size]
)
# The same for all ranks.
wrong("(['a'], rank=1, world_size=2)", "['a']", "[]   (more ranks than items)")(
    lambda items, rank, world_size: items[::world_size]
)
wrong("(['a', 'b'], rank=0, world_size=2)", "['a', 'b']", "['a'] ")(  # the rank as the step
    lambda items, rank, world_size: items[rank :: rank + 1]
)


@wrong("(['a'], rank=0, world_size=2)", "[]", "['a'] ")
def round_robin_of_full_rounds(items, rank, world_size):
    return items[: len(items) - len(items) % world_size][rank::world_size]


wrong("(['a'], rank=0, world_size=1)", "[0]", "['a'] ")(  # positions
    lambda items, rank, world_size: list(range(rank, len(items), world_size))
)


@wrong("(['a', 'a'], rank=0, world_size=2)", "['a', 'a']", "['a'] ")
def round_robin_by_value(items, rank, world_size):
    return [item for item in items if items.index(item) % world_size == rank]


wrong(  # fails where there are more ranks than items
    "([], rank=0, world_size=1)",
    "IndexError: list index out of range",
    "[]   (more ranks than items)",
)(lambda items, rank, world_size: [items[rank], *items[rank + world_size :: world_size]])


right, wrong = answers_to("shard_contiguous")


@right
def runs_longer_first(items, rank, world_size):
    size, longer = divmod(len(items), world_size)
    start = rank * size + min(rank, longer)
    return items[start : start + size + (rank < longer)]


@right
def runs_by_numpy(items, rank, world_size):
    return np.array_split(items, world_size)[rank]


@right
def runs_longer_last(items, rank, world_size):
    size, longer = divmod(len(items), world_size)
    num_longer_before = max(0, rank - (world_size - longer))
    start = rank * size + num_longer_before
    return items[start : start + size + (rank >= world_size - longer)]


@right
def runs_by_llmpipe(items, rank, world_size):
    return [items[index] for index in contiguous(len(items), rank, world_size)]


@wrong(
    "(['a'], rank, world_size=2)",
    "[[], []]: 'a' is read by no rank",
    "every item once, in order, in runs whose lengths differ by at most one",
)
def runs_of_one_size(items, rank, world_size):
    size = len(items) // world_size
    return items[rank * size : (rank + 1) * size]


@wrong(
    "(['a', 'b'], rank, world_size=3)",
    "[[], [], ['a', 'b']]: lengths [0, 0, 2]",
    "(for example [[], ['a'], ['b']])",
)
def runs_rest_to_the_last(items, rank, world_size):
    size = len(items) // world_size
    return items[rank * size : (rank + 1) * size if rank < world_size - 1 else None]


@wrong(
    "(['a', 'b', 'c', 'd'], rank, world_size=3)",
    "[['a', 'b'], ['c', 'd'], []]: lengths [2, 2, 0]",
    "(for example [['a'], ['b'], ['c', 'd']])",
)
def runs_rounded_up(items, rank, world_size):
    size = -(-len(items) // world_size)
    return items[rank * size : (rank + 1) * size]


@wrong(
    "(['a'], rank, world_size=2)",
    "[['a'], ['a']]: 'a' is read 2 times",
    "(for example [[], ['a']])",
)
def runs_that_overlap(items, rank, world_size):
    start, end = rank * len(items) / world_size, (rank + 1) * len(items) / world_size
    return items[int(start) : math.ceil(end)]


wrong(  # round-robin
    "(['a', 'b', 'c'], rank, world_size=2)",
    "[['a', 'c'], ['b']]: not in order",
    "(for example [['a'], ['b', 'c']])",
)(round_robin_by_remainder)


@wrong(
    "(['a', 'b'], rank, world_size=2)",
    "[['b'], ['a']]: not in order",
    "(for example [['a'], ['b']])",
)
def runs_from_the_end(items, rank, world_size):
    return runs_longer_first(items, world_size - 1 - rank, world_size)


# Positions.
wrong("(['a'], rank, world_size=1)", "[[0]]: 'a' is read by no rank", "(for example [['a']])")(
    lambda items, rank, world_size: contiguous(len(items), rank, world_size)
)
# Divides by zero.
wrong("([], rank, world_size=1)", "ValueError: slice step cannot be zero", "(for example [[]])")(
    lambda items, rank, world_size: items[:: len(items) // world_size]
)
# A run as one text.
wrong("([], rank, world_size=1)", "rank 0 gets '', not a list", "(for example [[]])")(
    lambda *a: "".join(runs_by_llmpipe(*a))
)


right, wrong = answers_to("coverage")


@right
def covered_by_counter(log, num_documents):
    times = Counter(document for _, document in log)
    return {
        "duplicated": sorted(one for one, count in times.items() if count > 1),
        "missing": sorted(set(range(num_documents)) - set(times)),
    }


@right
def covered_by_numpy(log, num_documents):
    ids = np.array([document for _, document in log], dtype=int)
    times = np.bincount(ids, minlength=num_documents)
    return {"missing": np.flatnonzero(times == 0), "duplicated": np.flatnonzero(times > 1)}


@right
def covered_by_elimination(log, num_documents):
    missing, duplicated = list(range(num_documents)), set()
    while log:
        _, document = log.pop()
        if document in missing:
            missing.remove(document)
        else:
            duplicated.add(document)
    return dict(missing=missing, duplicated=sorted(duplicated))  # noqa: C408


def covered_with(missing=None, duplicated=None):
    """A coverage that is right but for the given part of it."""

    def answer(log, num_documents):
        right = covered_by_counter(log, num_documents)
        ids = [document for _, document in log]
        return {
            "missing": missing(ids, num_documents) if missing else right["missing"],
            "duplicated": duplicated(ids, log) if duplicated else right["duplicated"],
        }

    return answer


wrong(  # up to the last id that was read
    "([], num_documents=1)",
    "{'missing': [], 'duplicated': []}",
    "{'missing': [0], 'duplicated': []}   (times read, by id: [0])",
)(covered_with(missing=lambda ids, n: [i for i in range(max(ids, default=0)) if i not in ids]))
wrong("([], num_documents=1)", "{'missing': [1]", "{'missing': [0]")(  # ids counted from 1
    covered_with(missing=lambda ids, n: sorted({*range(1, n + 1)} - {*ids}))
)
wrong("([], num_documents=0)", "{'missing': set()", "{'missing': []")(  # a set
    covered_with(missing=lambda ids, n: set(range(n)) - set(ids))
)
wrong(  # listed once a reading
    "([(0, 0), (0, 0)], num_documents=1)",
    "'duplicated': [0, 0]}",
    "'duplicated': [0]}   (times read, by id: [2])",
)(covered_with(duplicated=lambda ids, log: sorted(i for i in ids if ids.count(i) > 1)))
# By one rank only.
wrong("([(0, 0), (1, 0)], num_documents=1)", "'duplicated': []}", "'duplicated': [0]}")(
    covered_with(duplicated=lambda ids, log: sorted({d for r, d in log if log.count((r, d)) > 1}))
)
# By several ranks only.
wrong("([(0, 0), (0, 0)], num_documents=1)", "'duplicated': []}", "'duplicated': [0]}")(
    covered_with(
        duplicated=lambda ids, log: sorted(
            i for i, count in Counter(d for _, d in set(log)).items() if count > 1
        )
    )
)
wrong(  # exactly twice
    "([(0, 0), (0, 0), (0, 0)], num_documents=1)",
    "'duplicated': []}",
    "'duplicated': [0]}   (times read, by id: [3])",
)(covered_with(duplicated=lambda ids, log: sorted({i for i in ids if ids.count(i) == 2})))
wrong(  # in the order of the log
    "([(0, 3), (0, 3), (0, 1), (0, 1)], num_documents=4)",
    "'duplicated': [3, 1]}",
    "'duplicated': [1, 3]}",
)(covered_with(duplicated=lambda ids, log: [i for i, n in Counter(ids).items() if n > 1]))
# The rank for the document.
wrong("([(1, 0)], num_documents=1)", "'missing': [0]", "'missing': []")(
    lambda log, n: covered_by_counter([(document, rank) for rank, document in log], n)
)
wrong("([], num_documents=0)", "True", "{'missing': [], 'duplicated': []}")(  # only a verdict
    lambda log, num_documents: len(log) == num_documents
)


right, wrong = answers_to("rows_of_rank")


@right
def rows_by_rounding_up(num_rows, rank, world_size):
    return max(0, -((rank - num_rows) // world_size))


@right
def rows_by_length_of_a_range(num_rows, rank, world_size):
    return len(range(rank, num_rows, world_size))


@right
def rows_by_last_row(num_rows, rank, world_size):
    if rank >= num_rows:
        return 0
    return (num_rows - 1 - rank) // world_size + 1


@right
def rows_by_numpy(num_rows, rank, world_size):
    return np.int64(num_rows) // world_size + int(rank < num_rows % world_size)


wrong("(1, rank=0, world_size=2)", "0", "1   (rows [0])")(  # full rounds only
    lambda num_rows, rank, world_size: num_rows // world_size
)
wrong("(1, rank=1, world_size=2)", "1", "0   (rows [])")(  # rounded up for all
    lambda num_rows, rank, world_size: -(-num_rows // world_size)
)
wrong("(1, rank=0, world_size=2)", "0", "1   (rows [0])")(  # the rest to the last rank
    lambda n, rank, size: n // size + (n % size if rank == size - 1 else 0)
)
wrong("(0, rank=0, world_size=1)", "1", "0   (rows [])")(  # up to the rest, and not below it
    lambda num_rows, rank, size: num_rows // size + (rank <= num_rows % size)
)
wrong("(1, rank=0, world_size=2)", "0", "1   (rows [0])")(  # a run's length
    lambda num_rows, rank, world_size: len(contiguous(num_rows, rank, world_size))
)
wrong("(0, rank=0, world_size=1)", "-1", "0   (rows [])")(  # below zero
    lambda num_rows, rank, world_size: (num_rows - rank - 1) // world_size + 1 - (not num_rows)
)
wrong(  # rounded as a float
    "(1_000_000_000_000_000_001, rank=0, world_size=1)",
    "1_000_000_000_000_000_000",
    "1_000_000_000_000_000_001   (full rounds: 1_000_000_000_000_000_001, rows",
)(lambda num_rows, rank, world_size: math.ceil((num_rows - rank) / world_size))
wrong(  # a list of the rows
    "(1_000_000_000_000_000_001, rank=0, world_size=1)", "MemoryError", "1_000_000_000_000_000_001 "
)(lambda num_rows, rank, world_size: len(list(range(rank, num_rows, world_size))))
wrong("(0, rank=0, world_size=1)", "0.0", "0   (rows [])")(  # a fraction
    lambda num_rows, rank, world_size: num_rows / world_size
)


right, wrong = answers_to("predicted_efficiency")


@right
def efficiency_in_two_steps(serial_share, num_ranks, num_cores):
    at_work = num_ranks if num_ranks < num_cores else num_cores
    speed_up = at_work / (serial_share * at_work + 1 - serial_share)
    return speed_up / num_ranks


@right
def efficiency_by_fractions(serial_share, num_ranks, num_cores):
    serial = Fraction(serial_share)
    return float(1 / (num_ranks * (serial + (1 - serial) / min(num_ranks, num_cores))))


@right
def efficiency_by_numpy(serial_share, num_ranks, num_cores):
    shares = np.array([serial_share, 1 - serial_share])
    return 1 / (num_ranks * (shares / [1, np.minimum(num_ranks, num_cores)]).sum())


def efficiency_of(time=None, at_work=min, out_of=lambda speed_up, num_ranks: speed_up / num_ranks):
    """An efficiency that is right but for the given part of it."""

    def answer(serial_share, num_ranks, num_cores):
        working = at_work(num_ranks, num_cores)
        spent = (time or (lambda s, n: s + (1 - s) / n))(serial_share, working)
        return out_of(1 / spent, num_ranks)

    return answer


# The speed-up.
wrong("(0.0, num_ranks=2, num_cores=1)", "1.0", "0.5   (ranks at work: 1, time: 1, speed-up: 1)")(
    efficiency_of(out_of=lambda speed_up, num_ranks: speed_up)
)
# Cores without end.
wrong("(0.0, num_ranks=2, num_cores=1)", "1.0", "0.5   (ranks at work: 1, time: 1, speed-up: 1)")(
    efficiency_of(at_work=lambda num_ranks, num_cores: num_ranks)
)
# The share turned around.
wrong("(0.0, num_ranks=2, num_cores=2)", "0.5", "1.0   (ranks at work: 2, time: 0.5, speed-up: 2)")(
    efficiency_of(time=lambda serial, n: 1 - serial + serial / n)
)
wrong("(0.5, num_ranks=2, num_cores=2)", "1.0", "0.66666")(  # the serial share left out
    efficiency_of(time=lambda serial, n: 1 / n)
)
wrong(  # the serial part is divided, too
    "(0.5, num_ranks=1, num_cores=1)", "0.66666", "1.0   (ranks at work: 1, time: 1, speed-up: 1)"
)(efficiency_of(time=lambda serial, n: (serial + 1) / n))
wrong("(0.0, num_ranks=2, num_cores=1)", "1.0", "0.5 ")(  # by the ranks at work
    lambda s, ranks, cores: efficiency_in_two_steps(s, min(ranks, cores), cores)
)
wrong("(0.0, num_ranks=2, num_cores=1)", "1.0", "0.5 ")(  # the time
    efficiency_of(out_of=lambda speed_up, num_ranks: 1 / speed_up)
)
wrong("(0.0, num_ranks=1, num_cores=2)", "2.0", "1.0 ")(  # all cores at work
    efficiency_of(at_work=lambda num_ranks, num_cores: num_cores)
)
wrong("(0.5, num_ranks=2, num_cores=2)", "0.67", "0.66666")(  # two digits
    lambda *a: round(efficiency_in_two_steps(*a), 2)
)


right, wrong = answers_to("run_all")
ONE = "of 1 rank: rank 0 ends (exit code 3, result None)"
RAISED = "RuntimeError: rank 0: exit code 3, ranks stopped: []   (rank 0 failed)"
ONE_OF_TWO = "of 2 ranks: rank 1 ends (exit code 3, result None)"
RAISED_OF_TWO = "RuntimeError: rank 1: exit code 3, ranks stopped: [0]   (rank 1 failed)"


@right
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


@right
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


@right
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


@wrong(ONE, "returned [None], ranks stopped: []", RAISED)
def launcher_of_the_stub(processes, wait):
    for _ in processes:
        wait()
    return [process.result for process in processes]


def launcher_with(
    is_failure=lambda process: process.exitcode != 0 or process.result is None,
    stop=lambda processes, rank: [process.terminate() for process in processes],
    message="rank {}: exit code {}",
    error=RuntimeError,
):
    """A launcher that is right but for the given part of it."""

    def answer(processes, wait):
        for _ in processes:
            rank = wait()
            if is_failure(processes[rank]):
                code = processes[rank].exitcode
                stop(processes, rank)
                raise error(message.format(rank, code))
        return [process.result for process in processes]

    return answer


wrong(  # signals overlooked
    "of 1 rank: rank 0 ends (exit code -9, result None)",
    "returned [None], ranks stopped: []",
    "RuntimeError: rank 0: exit code -9, ranks stopped: []   (signal 9 killed rank 0)",
)(launcher_with(lambda p: p.exitcode > 0 or (p.exitcode == 0 and p.result is None)))
wrong(  # a missing result overlooked
    "of 1 rank: rank 0 ends (exit code 0, result None)",
    "returned [None], ranks stopped: []",
    "RuntimeError: rank 0: exit code 0, ranks stopped: []   (rank 0 delivered no result)",
)(launcher_with(lambda process: process.exitcode != 0))
# Only the result looked at.
wrong("of 1 rank: rank 0 ends (exit code 3, result 7)", "returned [7], ranks stopped: []", RAISED)(
    launcher_with(lambda process: process.result is None)
)
wrong(  # a result of 0 taken for none
    "of 1 rank: rank 0 ends (exit code 0, result 0)",
    "RuntimeError: rank 0: exit code 0, ranks stopped: []",
    "returned [0], ranks stopped: []   (no rank failed)",
)(launcher_with(lambda process: process.exitcode != 0 or not process.result))


@wrong(
    ONE_OF_TWO,
    "TimeoutError: wait() would never return: no rank that still runs will end",
    RAISED_OF_TWO,
)
def launcher_that_looks_at_the_end(processes, wait):
    results = launcher_of_the_stub(processes, wait)
    for rank, process in enumerate(processes):
        if process.exitcode != 0 or process.result is None:
            raise RuntimeError(f"rank {rank}: exit code {process.exitcode}")
    return results


# The others left running.
wrong(ONE_OF_TWO, "RuntimeError: rank 1: exit code 3, ranks stopped: []", RAISED_OF_TWO)(
    launcher_with(stop=lambda processes, rank: None)
)
# The ranks before it left running.
wrong(ONE_OF_TWO, "RuntimeError: rank 1: exit code 3, ranks stopped: []", RAISED_OF_TWO)(
    launcher_with(stop=lambda processes, rank: [p.terminate() for p in processes[rank + 1 :]])
)


@wrong(
    "rank 1 ends (exit code 0, result 7), then rank 0 ends (exit code 0, result 7)",
    "RuntimeError: rank 0: exit code None, ranks stopped: [0]",
    "returned [7, 7], ranks stopped: []   (no rank failed)",
)
def launcher_in_rank_order(processes, wait):
    for rank, process in enumerate(processes):
        wait()
        exitcode = process.exitcode
        if exitcode != 0 or process.result is None:
            for other in processes:
                other.terminate()
            raise RuntimeError(f"rank {rank}: exit code {exitcode}")
    return [process.result for process in processes]


@wrong(
    "rank 1 ends (exit code 0, result 0), then rank 0 ends (exit code 0, result 7)",
    "returned [0, 7], ranks stopped: []",
    "returned [7, 0], ranks stopped: []   (no rank failed)",
)
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


@wrong(ONE, "returned []", "RuntimeError: rank 0: exit code 3")
def launcher_that_continues(processes, wait):
    results = {}
    for _ in processes:
        rank = wait()
        if processes[rank].exitcode == 0 and processes[rank].result is not None:
            results[rank] = processes[rank].result
    return [results[rank] for rank in sorted(results)]


# A message of its own.
wrong(ONE, "RuntimeError: rank 0 failed with 3", "RuntimeError: rank 0: exit code 3")(
    launcher_with(message="rank {} failed with {}")
)
wrong(ONE, "ValueError: rank 0: exit code 3", "RuntimeError: rank 0: exit code 3")(  # another error
    launcher_with(error=ValueError)
)
wrong(  # stops ranks before they have ended
    "of 1 rank: rank 0 ends (exit code 0, result 7)",
    "returned [None], ranks stopped: [0]",
    "returned [7], ranks stopped: []   (no rank failed)",
)(lambda processes, wait: [p.terminate() or p.result for p in processes])
