"""The exercises of Lab 4: reviews cut, padded, put in batches and dealt to ranks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

from llmpipe.classroom.exercises.exercise import Exercise
from llmpipe.classroom.exercises.lab2 import numbered
from llmpipe.classroom.exercises.lab3 import BalancedPlan


class PadToLongest(Exercise):
    name = "pad_to_longest"
    signature = "pad_to_longest(reviews: list[list[int]], pad_id: int)"
    task = (
        "**Exercise 1: no longer than it must be.** Write `pad_to_longest(reviews, pad_id)` for a "
        "batch of lists of ids. It returns `(input_ids, attention_mask)`, a row for each review, "
        "all as long as the longest: shorter ones are followed by `pad_id`, where the mask is 0; "
        "elsewhere it is 1. Mind reviews that hold `pad_id`, and a batch without reviews."
    )

    def inputs(self) -> Iterator[tuple]:
        small = [list(lengths) for count in range(5) for lengths in product(range(4), repeat=count)]
        for lengths in sorted(small, key=lambda lengths: len(lengths) + sum(lengths)):
            reviews = numbered(lengths)
            yield reviews, 0
            if any(reviews):
                yield reviews, 1
        chooser = random.Random(0)
        for count in range(5, 20):
            yield numbered(chooser.choices(range(20), k=count)), chooser.randrange(9)

    def allowed(self, reviews: list[list[int]], pad_id: int) -> bool:
        # An id of 0 would be taken for padding by a reader, where that is not the point.
        return not any(0 in review for review in reviews)

    def due(self, reviews: list[list[int]], pad_id: int) -> list:
        longest = max(map(len, reviews), default=0)
        gaps = [longest - len(review) for review in reviews]
        input_ids = [ids + [pad_id] * gap for ids, gap in zip(reviews, gaps, strict=True)]
        mask = [[1] * (longest - gap) + [0] * gap for gap in gaps]
        return [input_ids, mask]

    def why(self, reviews: list[list[int]], pad_id: int) -> str:
        inside = any(pad_id in review for review in reviews)
        also = f", and {pad_id} occurs in a review" if inside else ""
        return f"longest review: {max(map(len, reviews), default=0)}{also}"

    def shown(self, reviews: list[list[int]], pad_id: int) -> str:
        return f"{self.name}({reviews}, pad_id={pad_id})"

    def shown_output(self, value: Any) -> str:
        if isinstance(value, list) and len(value) == 2:
            return f"input_ids {value[0]}, attention_mask {value[1]}"
        return repr(value)


class LengthBuckets(Exercise):
    name = "length_buckets"
    signature = "length_buckets(lengths: list[int], batch_size: int) -> list[list[int]]"
    task = (
        "**Exercise 2: like with like.** Review `i` has `lengths[i]` ids. Write "
        "`length_buckets(lengths, batch_size)`: a list of batches, each a list of indices `i`. "
        "Reviews come from the shortest to the longest, equally long ones in the order they have, "
        "`batch_size` to a batch; the last batch may hold fewer. Every review is in one batch."
    )

    def inputs(self) -> Iterator[tuple]:
        small = [
            (list(lengths), batch_size)
            for count in range(5)
            for lengths in product(range(1, 4), repeat=count)
            for batch_size in range(1, 5)
        ]
        yield from sorted(small, key=lambda data: len(data[0]) + sum(data[0]) + data[1])
        chooser = random.Random(0)
        for count in range(5, 40):
            yield chooser.choices(range(1, 20), k=count), chooser.randrange(1, 9)

    def allowed(self, lengths: list[int], batch_size: int) -> bool:
        return batch_size >= 1 and 0 not in lengths

    def due(self, lengths: list[int], batch_size: int) -> list[list[int]]:
        pairs = sorted((length, index) for index, length in enumerate(lengths))
        indices = [index for _, index in pairs]
        starts = range(0, len(indices), batch_size)
        return [indices[start : start + batch_size] for start in starts]

    def why(self, lengths: list[int], batch_size: int) -> str:
        return f"reviews: {len(lengths)}, batches: {len(self.due(lengths, batch_size))}"

    def shown(self, lengths: list[int], batch_size: int) -> str:
        return f"{self.name}({lengths}, batch_size={batch_size})"


class PaddingRatio(Exercise):
    name = "padding_ratio"
    signature = "padding_ratio(attention_mask: list[list[int]]) -> float"
    task = (
        "**Exercise 3: what padding costs.** Write `padding_ratio(attention_mask)` for a mask of "
        "equally long rows, 1 where an id of a review stands and 0 on padding, which may be on "
        "either side: the share of all its positions that is padding, from 0.0 to 1.0. A batch "
        "without positions, `[]` or `[[], []]`, has 0.0."
    )

    def inputs(self) -> Iterator[tuple]:
        yield ([],)
        shapes = sorted(product(range(1, 5), range(5)), key=lambda shape: shape[0] * shape[1])
        for num_rows, length in shapes:
            # Each row is padded after its ids, then before them.
            for counts in product(range(length + 1), repeat=min(num_rows, 2)):
                rows = [[1] * count + [0] * (length - count) for count in counts]
                mask = rows + [[1] * length for _ in range(num_rows - len(rows))]
                yield (mask,)
                yield ([row[::-1] for row in mask],)

    def allowed(self, attention_mask: list[list[int]]) -> bool:
        return len(set(map(len, attention_mask))) <= 1

    def due(self, attention_mask: list[list[int]]) -> float:
        positions = [one for row in attention_mask for one in row]
        return positions.count(0) / len(positions) if positions else 0.0

    def why(self, attention_mask: list[list[int]]) -> str:
        positions = [one for row in attention_mask for one in row]
        return f"positions: {len(positions)}, padding: {positions.count(0)}"


class KeepBothEnds(Exercise):
    """An input is the number of ids, and how many of them are kept."""

    name = "keep_both_ends"
    signature = "keep_both_ends(ids: list[int], max_length: int) -> list[int]"
    task = (
        "**Exercise 5: the verdict comes last.** Write `keep_both_ends(ids, max_length)`: a review "
        "of at most `max_length` ids stays whole. Of a longer one, keep `max_length` ids, half "
        "from its beginning and half from its end, in order; if `max_length` is odd, the beginning "
        "has one more. `max_length` is 1 or more."
    )

    def inputs(self) -> Iterator[tuple]:
        yield from sorted(product(range(12), range(1, 10)), key=sum)
        yield 600, 256

    def allowed(self, count: int, max_length: int) -> bool:
        return max_length >= 1

    def arguments(self, count: int, max_length: int) -> tuple:
        return list(range(1, count + 1)), max_length

    def due(self, count: int, max_length: int) -> list[int]:
        ids, _ = self.arguments(count, max_length)
        dropped = max(0, count - max_length)
        num_first = min(count, max_length - max_length // 2)
        return ids[:num_first] + ids[num_first + dropped :]

    def why(self, count: int, max_length: int) -> str:
        if count <= max_length:
            return f"{count} of at most {max_length} ids: whole"
        num_last = max_length // 2
        return f"{max_length - num_last} from the beginning, {num_last} from the end"

    def shown(self, count: int, max_length: int) -> str:
        ids, _ = self.arguments(count, max_length)
        return f"{self.name}({ids}, max_length={max_length})"


EXERCISES = (PadToLongest(), LengthBuckets(), PaddingRatio(), BalancedPlan(), KeepBothEnds())
