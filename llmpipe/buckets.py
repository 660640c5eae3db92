"""Batches of rows about as long, so that little is padding: a batch sampler for PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llmpipe.padding import batches_in_order, by_length, sizes_of
from llmpipe.recipe import check_count

GROUP_BATCHES = 50  # sorted by length among themselves: more leave less padding and less chance


class BucketBatchSampler:
    """Batches of reviews about as long, in a new order every epoch: lists of indices.

    Reviews are shuffled, each 50 batches of them sorted by length, cut into batches, and the
    batches shuffled; by `seed` and `set_epoch` alone. Every index comes exactly once. Without
    `shuffle` all are sorted by length.

    `DataLoader(dataset, batch_sampler=BucketBatchSampler(dataset.lengths, 32))`, where the data set
    pads to the "longest".

    >>> sampler = BucketBatchSampler([5, 1, 4, 2, 3], batch_size=2, shuffle=False)
    >>> list(sampler)
    [[1, 3], [4, 2], [0]]
    """

    drop_last = False

    def __init__(
        self, lengths: Any, batch_size: int, *, shuffle: bool = True, seed: int = 0
    ) -> None:
        check_count("batch_size", batch_size, 1)
        check_count("seed", seed, 0)
        self.lengths = np.asarray(lengths)
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is, from 0."""
        check_count("epoch", epoch, 0)
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        sizes = sizes_of(len(self.lengths), self.batch_size)
        if self.shuffle:
            order = self._random(len(self.lengths), 1)
            order = order[by_length(self.lengths[order], GROUP_BATCHES * self.batch_size)]
            batches = self._random(len(sizes), 2)
            order, sizes = order[batches_in_order(sizes, batches)], sizes[batches]
        else:
            order = np.argsort(self.lengths, kind="stable")
        first = 0
        for size in sizes.tolist():
            yield order[first : first + size].tolist()
            first += size

    def _random(self, number: int, step: int) -> np.ndarray:
        """A permutation that is the same on every machine, as in `Lanes`."""
        words = np.random.PCG64([self.seed, self.epoch, step]).random_raw(number)
        return np.argsort(words, kind="stable")
