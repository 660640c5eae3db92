"""The exercises of Lab 1: a rule, blocks that lose nothing, and what a larger size brings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from llmpipe.classroom.exercises.exercise import Exercise
from llmpipe.classroom.exercises.shared import PaddedExercise, small_lists


class MyRule(Exercise):
    """**Exercise 1: a rule of your own.** Write `my_rule(text)`: it returns the reason
    `"shouting"` if more than half of the letters are capitals, else `None`. A letter is what
    `str.isalpha` accepts, a capital a letter that `str.isupper` accepts; spaces, digits and marks
    count for neither. A text without letters is kept.
    """

    signature = "my_rule(text: str) -> str | None"

    def inputs(self) -> Iterator[tuple]:
        for length in range(5):
            for characters in product("Aa !1É", repeat=length):
                yield ("".join(characters),)
        for text in ("NASA", "BUY NOW!!! only 3 left", "UNESCO met in Paris .", "ÀÉÎÕÜ", "中文 A"):
            yield (text,)
        chooser = random.Random(0)
        for length in range(5, 200):
            yield ("".join(chooser.choices("ABCÉЖabcßж中 .,!?019", k=length)),)

    def due(self, text: str) -> tuple[str | None, str]:
        letters = [character for character in text if character.isalpha()]
        num_capitals = sum(letter.isupper() for letter in letters)
        reason = "shouting" if num_capitals > len(letters) / 2 else None
        return reason, f"letters: {len(letters)}, capitals: {num_capitals}"


class IdsLost(Exercise):
    """**Exercise 2: lost at the edges.** Documents have `lengths` ids. They come `batch_size` at a
    time, in order; the last map batch may hold fewer. The ids of each map batch are joined and cut
    into blocks of `block_size`, and what is left over is dropped. Write `ids_lost(lengths,
    batch_size, block_size)`: how many ids are dropped in all?
    """

    signature = "ids_lost(lengths: list[int], batch_size: int, block_size: int) -> int"

    def inputs(self) -> Iterator[tuple]:
        yield from small_lists(range(4), 4, range(1, 4), range(1, 5))
        chooser = random.Random(0)
        for count in (10, 20, 50, 100):
            for batch_size, block_size in ((1, 128), (7, 128), (10, 64), (count, 128), (1000, 16)):
                yield [chooser.randrange(400) for _ in range(count)], batch_size, block_size

    def due(self, lengths: list[int], batch_size: int, block_size: int) -> tuple[int, str]:
        starts = range(0, len(lengths), batch_size)
        left_over = [sum(lengths[start : start + batch_size]) % block_size for start in starts]
        if len(left_over) > 12:
            return sum(left_over), f"left over of {len(left_over)} map batches"
        return sum(left_over), f"left over of each map batch: {left_over}"


class ChunkPadded(PaddedExercise):
    """**Exercise 3: lose nothing.** Write `chunk_padded(ids, block_size, pad_id)` for an array of
    ids. It returns `(blocks, attention_mask)`, whole numbers of shape `(num_blocks, block_size)`:
    the last block is filled with `pad_id`; the mask is 1 where an id of the text stands and 0 on
    padding. No ids, no blocks. Mind a text that holds `pad_id`.
    """

    signature = "chunk_padded(ids: np.ndarray, block_size: int, pad_id: int)"
    rows_name = "blocks"

    def inputs(self) -> Iterator[tuple]:
        for count in range(8):
            for block_size in range(1, 6):
                yield list(range(1, count + 1)), block_size, 0
                yield [9] * count, block_size, 9
        chooser = random.Random(0)
        for count in range(8, 60):
            yield chooser.choices(range(1, 50), k=count), chooser.randrange(1, 20), 7
        yield [50256, 464, 3290, 50256, 50256], 4, 50256

    def allowed(self, ids: list[int], block_size: int, pad_id: int) -> bool:
        return 0 not in ids  # a reader would take it for padding, where that is not the point

    def due(self, ids: list[int], block_size: int, pad_id: int) -> tuple[list, str]:
        starts = range(0, len(ids), block_size)
        rows = [ids[start : start + block_size] for start in starts]
        inside = f", and {pad_id} occurs in the text" if pad_id in ids else ""
        why = f"ids: {len(ids)}, padding: {-len(ids) % block_size}{inside}"
        return self.padded(rows, block_size, pad_id), why

    def arguments(self, ids: list[int], block_size: int, pad_id: int) -> tuple:
        return np.array(ids, dtype=np.int64), block_size, pad_id

    def shown_first(self, value: np.ndarray) -> str:
        return f"np.array({value.tolist()})" if value.size else "np.array([], dtype=int)"


class SmallestGoodBatchSize(Exercise):
    """**Exercise 4: when batching stops paying.** `measure(size)` gives the tokens/s of a batch
    size; it takes long, so ask once a size. Write `smallest_good_batch_size(measure, sizes,
    tolerance)`: the smallest of `sizes`, which ascend, whose rate is at least `(1 - tolerance)`
    times the best rate of all. Then try it on your tokenizer.
    """

    signature = "smallest_good_batch_size(measure, sizes: list[int], tolerance: float) -> int"

    # An input is the rates, in tokens/s, at the batch sizes 1, 2, 4, ...; and the tolerance.
    def inputs(self) -> Iterator[tuple]:
        # Quarters and halves of whole numbers are exact, so that no answer hangs on rounding.
        for count in range(1, 5):
            for rates in product((4, 8, 12, 16), repeat=count):
                for tolerance in (0.25, 0.5, 0.0):
                    yield list(rates), tolerance
        yield [400, 552, 700, 820, 880, 900, 920, 908, 932, 920], 0.125

    def allowed(self, rates: list[int], tolerance: float) -> bool:
        return len(rates) >= 1 and min(rates) >= 1

    def by_size(self, rates: list[int]) -> dict[int, int]:
        return {2**index: rate for index, rate in enumerate(rates)}

    def due(self, rates: list[int], tolerance: float) -> tuple[int, str]:
        good = (1 - tolerance) * max(rates)
        smallest = next(size for size, rate in self.by_size(rates).items() if rate >= good)
        return smallest, f"the best rate is {max(rates)}, good is {good:g} or more"

    def arguments(self, rates: list[int], tolerance: float) -> tuple:
        left = self.by_size(rates)
        sizes = list(left)

        def measure(size: int) -> int:
            if size not in sizes:
                raise ValueError(f"{size!r} is not one of the sizes {sizes}")
            if size not in left:
                raise RuntimeError(f"size {size} was measured before: keep its rate")
            return left.pop(size)

        return measure, sizes.copy(), tolerance

    def shown(self, rates: list[int], tolerance: float) -> str:
        rate_of = self.by_size(rates)
        return f"{self.name}({rate_of}.get, {list(rate_of)}, tolerance={tolerance})"


class MeasureBlockSizes(Exercise):
    """**Exercise 5: throughput by block size.** Write `measure_block_sizes(ids, block_sizes,
    epoch, clock)`. For each block size, cut `ids` with `chunk`, call `epoch(blocks)` once to warm
    up, then time a second call with `clock()`, which tells seconds. Return `{block_size: tokens
    per second}`; ids in the remainder are not read, so do not count them.
    """

    signature = (
        "measure_block_sizes(ids: np.ndarray, block_sizes: list[int], epoch, clock)"
        " -> dict[int, float]"
    )
    COLD_S, WARM_S = 10, 2

    # An input is the number of ids and the block sizes; time is a clock of our own.
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

    def due(self, count: int, block_sizes: list[int]) -> tuple[dict[int, float], str]:
        read = {size: count - count % size for size in block_sizes}
        why = f"ids in blocks: {read}; an epoch takes {self.COLD_S} s, then {self.WARM_S} s"
        return {size: num_ids / self.WARM_S for size, num_ids in read.items()}, why

    def arguments(self, count: int, block_sizes: list[int]) -> tuple:
        now, known = 1000.0, set()

        def epoch(blocks: Any) -> None:  # takes longer with a block size that is new
            nonlocal now
            if np.ndim(blocks) != 2:
                raise TypeError(f"epoch takes blocks of shape (B, T), got {np.shape(blocks)}")
            now += self.WARM_S if np.shape(blocks)[1] in known else self.COLD_S
            known.add(np.shape(blocks)[1])

        return np.arange(count), list(block_sizes), epoch, lambda: now

    def shown(self, count: int, block_sizes: list[int]) -> str:
        return f"{self.name}(np.arange({count}), {block_sizes}, epoch, clock)"


EXERCISES = (MyRule(), IdsLost(), ChunkPadded(), SmallestGoodBatchSize(), MeasureBlockSizes())
