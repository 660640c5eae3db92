"""Exercises that measure: batch size and block size, on rates and a clock that are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from llmpipe.kit.exercise import Exercise


class SmallestGoodBatchSize(Exercise):
    """An input is the rates, in tokens/s, at the batch sizes 1, 2, 4, ...; and the tolerance."""

    name = "smallest_good_batch_size"
    signature = "smallest_good_batch_size(measure, sizes: list[int], tolerance: float) -> int"
    task = (
        "**Exercise 4: when batching stops paying.** `measure(size)` gives the tokens/s of a batch "
        "size; it takes long, so ask once a size. Write "
        "`smallest_good_batch_size(measure, sizes, tolerance)`: the smallest of `sizes`, which "
        "ascend, whose rate is at least `(1 - tolerance)` times the best rate of all. Then try it "
        "on your tokenizer."
    )

    def inputs(self) -> Iterator[tuple]:
        # Quarters and halves of whole numbers are exact, so that no answer hangs on rounding.
        for count in range(1, 5):
            for rates in product((4, 8, 12, 16), repeat=count):
                for tolerance in (0.25, 0.5, 0.0):
                    yield list(rates), tolerance
        yield [400, 552, 700, 820, 880, 900, 920, 908, 932, 920], 0.125

    def allowed(self, rates: list[int], tolerance: float) -> bool:
        return len(rates) >= 1 and min(rates) >= 1

    def sizes(self, rates: list[int]) -> list[int]:
        return [2**index for index in range(len(rates))]

    def due(self, rates: list[int], tolerance: float) -> int:
        enough = (1 - tolerance) * max(rates)
        return next(
            size for size, rate in zip(self.sizes(rates), rates, strict=True) if rate >= enough
        )

    def why(self, rates: list[int], tolerance: float) -> str:
        return f"the best rate is {max(rates)}, good is {(1 - tolerance) * max(rates):g} or more"

    def arguments(self, rates: list[int], tolerance: float) -> tuple:
        left = dict(zip(self.sizes(rates), rates, strict=True))

        def measure(size: int) -> int:
            if size not in self.sizes(rates):
                raise ValueError(f"{size!r} is not one of the sizes {self.sizes(rates)}")
            if size not in left:
                raise RuntimeError(f"size {size} was measured before: keep its rate")
            return left.pop(size)

        return measure, self.sizes(rates), tolerance

    def shown(self, rates: list[int], tolerance: float) -> str:
        measured = dict(zip(self.sizes(rates), rates, strict=True))
        return f"{self.name}({measured}.get, {self.sizes(rates)}, tolerance={tolerance})"


class MeasureBlockSizes(Exercise):
    """An input is the number of ids and the block sizes; time is a clock of our own."""

    name = "measure_block_sizes"
    signature = (
        "measure_block_sizes(ids: np.ndarray, block_sizes: list[int], epoch, clock)"
        " -> dict[int, float]"
    )
    task = (
        "**Exercise 5: throughput by block size.** Write "
        "`measure_block_sizes(ids, block_sizes, epoch, clock)`. For each block size, cut `ids` "
        "with `chunk`, call `epoch(blocks)` once to warm up, then time a second call with "
        "`clock()`, which tells seconds. Return `{block_size: ids a second}`; ids in the remainder "
        "are not read, so do not count them."
    )
    COLD_S, WARM_S = 10, 2

    def inputs(self) -> Iterator[tuple]:
        for count in range(1, 9):
            for first in range(1, count + 1):
                yield count, [first]
        for count in range(2, 9):
            for first in range(1, count):
                yield count, [first, first + 1]
        yield 5000, [64, 128, 256, 512, 1024]

    def allowed(self, count: int, block_sizes: list[int]) -> bool:
        one_each = 0 < len(set(block_sizes)) == len(block_sizes)
        return one_each and all(1 <= block_size <= count for block_size in block_sizes)

    def due(self, count: int, block_sizes: list[int]) -> dict[int, float]:
        return {size: (count - count % size) / self.WARM_S for size in block_sizes}

    def why(self, count: int, block_sizes: list[int]) -> str:
        read = {size: count - count % size for size in block_sizes}
        return f"ids in blocks: {read}; an epoch takes {self.COLD_S} s, then {self.WARM_S} s"

    def arguments(self, count: int, block_sizes: list[int]) -> tuple:
        epoch, clock = self.epoch_and_clock()
        return np.arange(count), list(block_sizes), epoch, clock

    def epoch_and_clock(self) -> tuple[Callable[[Any], None], Callable[[], float]]:
        """An epoch that takes `COLD_S` with a block size that is new, `WARM_S` with a known one."""
        now, known = 1000.0, set()

        def epoch(blocks: Any) -> None:
            nonlocal now
            if np.ndim(blocks) != 2:
                raise TypeError(f"epoch takes blocks of shape (B, T), got {np.shape(blocks)}")
            now += self.WARM_S if np.shape(blocks)[1] in known else self.COLD_S
            known.add(np.shape(blocks)[1])

        return epoch, lambda: now

    def shown(self, count: int, block_sizes: list[int]) -> str:
        return f"{self.name}(np.arange({count}), {block_sizes}, epoch, clock)"
