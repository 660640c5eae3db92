"""Answers to the exercises of Lab 3, one function or class each."""

from __future__ import annotations


def shard_round_robin(items: list, rank: int, world_size: int) -> list:
    """The items at rank, rank + world_size, rank + 2 world_size, ..."""
    return items[rank::world_size]


def shard_contiguous(items: list, rank: int, world_size: int) -> list:
    """One run of neighbours; lengths differ by at most one."""
    # Where one rank ends the next begins, by the same formula: nothing is lost or duplicated.
    start, end = (i * len(items) // world_size for i in (rank, rank + 1))
    return items[start:end]


def coverage(log: list[tuple[int, int]], num_documents: int) -> dict[str, list[int]]:
    """The ids that nobody read, and those read more than once, by one rank or several."""
    times_read = [0] * num_documents
    for _, document in log:
        times_read[document] += 1
    return {
        "missing": [document for document, times in enumerate(times_read) if times == 0],
        "duplicated": [document for document, times in enumerate(times_read) if times > 1],
    }


def rows_of_rank(num_rows: int, rank: int, world_size: int) -> int:
    """The rows that round-robin gives a rank, without counting them."""
    full_rounds, left_over = divmod(num_rows, world_size)
    # The last round, which is not full, reaches the ranks below `left_over`.
    return full_rounds + (rank < left_over)


def predicted_efficiency(serial_share: float, num_ranks: int, num_cores: int) -> float:
    """Amdahl's speed-up, by the number of ranks; those beyond the cores bring nothing."""
    time = serial_share + (1 - serial_share) / min(num_ranks, num_cores)
    return 1 / time / num_ranks


def run_all(processes: list, wait) -> list:
    """The results of all ranks, in rank order; RuntimeError of the first that fails."""
    for _ in processes:
        rank = wait()
        process = processes[rank]
        # `is None` and not falsy: a rank that counted 0 tokens has delivered.
        if process.exitcode != 0 or process.result is None:
            for other in processes:
                other.terminate()  # does nothing to one that has ended
            raise RuntimeError(f"rank {rank}: exit code {process.exitcode}")
    return [process.result for process in processes]
