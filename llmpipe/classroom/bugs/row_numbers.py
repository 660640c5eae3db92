"""A data set that every loader worker reads in full: a module alone, as its base class is torch's.

A worker that is spawned gets a data set by the name of its class, so the class needs a module that
can be imported; `lab2` imports this one, and torch with it, only where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import IterableDataset, get_worker_info


class RowNumbers(IterableDataset):
    """The numbers 0 to num_rows - 1, one an item.

    Broken, it does not ask which worker it runs in, as a generator that was written for one process
    does not; else row i is for worker i % num_workers.

    >>> list(RowNumbers(3))
    [0, 1, 2]
    """

    def __init__(self, num_rows: int, *, broken: bool = False) -> None:
        self.num_rows, self.broken = num_rows, broken

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()  # None in the main process
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for row in range(self.num_rows):
            if self.broken or row % num_workers == worker_id:
                yield row
