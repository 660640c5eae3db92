"""The exercises of Lab 4: reviews cut, padded, put in batches and divided among ranks by class."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product

from llmpipe.classroom.exercises.exercise import Exercise
from llmpipe.classroom.exercises.shared import (
    PaddedExercise,
    ShardsExercise,
    numbered,
    said_times,
    small_lists,
)


class PadToLongest(PaddedExercise):
    """**Exercise 1: no longer than it must be.** Write `pad_to_longest(reviews, pad_id)` for a
    batch of lists of ids. It returns `(input_ids, attention_mask)`, a row for each review, all as
    long as the longest: shorter ones are followed by `pad_id`, where the mask is 0; elsewhere it
    is 1. Mind reviews that hold `pad_id`, and a batch without reviews.
    """

    signature = "pad_to_longest(reviews: list[list[int]], pad_id: int)"
    rows_name = "input_ids"

    def inputs(self) -> Iterator[tuple]:
        for lengths, pad_id in small_lists(range(4), 4, (0, 1)):
            yield numbered(lengths), pad_id
        chooser = random.Random(0)
        for count in range(5, 20):
            yield numbered(chooser.choices(range(20), k=count)), chooser.randrange(9)

    def allowed(self, reviews: list[list[int]], pad_id: int) -> bool:
        # A reader would take an id of 0 for padding, where that is not the point.
        return not any(0 in review for review in reviews)

    def due(self, reviews: list[list[int]], pad_id: int) -> tuple[list, str]:
        longest = max(map(len, reviews), default=0)
        inside = any(pad_id in review for review in reviews)
        also = f", and {pad_id} occurs in a review" if inside else ""
        return self.padded(reviews, longest, pad_id), f"longest review: {longest}{also}"


class LengthBuckets(Exercise):
    """**Exercise 2: like with like.** Review `i` has `lengths[i]` ids. Write
    `length_buckets(lengths, batch_size)`: a list of batches, each a list of indices `i`. Reviews
    come from the shortest to the longest, equally long ones in the order they have, `batch_size`
    to a batch; the last batch may hold fewer. Every review is in one batch.
    """

    signature = "length_buckets(lengths: list[int], batch_size: int) -> list[list[int]]"

    def inputs(self) -> Iterator[tuple]:
        yield from small_lists(range(1, 4), 4, range(1, 5))
        chooser = random.Random(0)
        for count in range(5, 40):
            yield chooser.choices(range(1, 20), k=count), chooser.randrange(1, 9)

    def allowed(self, lengths: list[int], batch_size: int) -> bool:
        return 0 not in lengths

    def due(self, lengths: list[int], batch_size: int) -> tuple[list[list[int]], str]:
        pairs = sorted((length, index) for index, length in enumerate(lengths))
        indices = [index for _, index in pairs]
        starts = range(0, len(indices), batch_size)
        batches = [indices[start : start + batch_size] for start in starts]
        return batches, f"reviews: {len(lengths)}, batches: {len(batches)}"


class PaddingRatio(Exercise):
    """**Exercise 3: what padding costs.** Write `padding_ratio(attention_mask)` for a mask of
    equally long rows, 1 where an id of a review stands and 0 on padding, which may be on either
    side: the share of all its positions that is padding, from 0.0 to 1.0. A batch without
    positions, `[]` or `[[], []]`, has 0.0.
    """

    signature = "padding_ratio(attention_mask: list[list[int]]) -> float"

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

    def due(self, attention_mask: list[list[int]]) -> tuple[float, str]:
        positions = [one for row in attention_mask for one in row]
        share = positions.count(0) / len(positions) if positions else 0.0
        return share, f"positions: {len(positions)}, padding: {positions.count(0)}"


class BalancedPlan(ShardsExercise):
    """**Exercise 4: every class on every rank.** Row `i` has label `labels[i]`; labels come in any
    order: sorted, as IMDB's, or alternating, too. Write `balanced_plan(labels, rank, world_size)`:
    the indices of the rows this rank reads. Over all ranks, each row is read once; of each class,
    the ranks' counts differ by at most one.
    """

    signature = "balanced_plan(labels: list[int], rank: int, world_size: int) -> list[int]"
    promise = "every row once; of each class, counts that differ by at most one"

    # The items are labels, and what ranks get is the numbers of their rows.
    def inputs(self) -> Iterator[tuple]:
        yield from small_lists(range(3), 4, range(1, 5))
        for labels, world_size in small_lists(range(2), 6, range(1, 5)):
            if len(labels) > 4:
                yield labels, world_size
        yield [0] * 12 + [1] * 13, 4
        yield [0, 1] * 12, 4

    def fault(self, shards: list[list], items: list[int]) -> str | None:
        for rank, shard in enumerate(shards):
            for row in shard:
                if type(row) is not int or not 0 <= row < len(items):
                    return f"rank {rank} has {row!r}, which is no row"
        times = Counter(row for shard in shards for row in shard)
        for row in range(len(items)):
            if times[row] != 1:
                return said_times(f"row {row}", times[row])
        for label in sorted(set(items)):
            counts = [sum(items[row] == label for row in shard) for shard in shards]
            if max(counts) - min(counts) > 1:
                return f"rows of class {label} by rank: {counts}"
        return None

    def example(self, items: list[int], world_size: int) -> list[list]:
        by_label = sorted(range(len(items)), key=lambda row: items[row])
        return [by_label[rank::world_size] for rank in range(world_size)]


class KeepBothEnds(Exercise):
    """**Exercise 5: the verdict comes last.** Write `keep_both_ends(ids, max_length)`: a review of
    at most `max_length` ids stays whole. Of a longer one, keep `max_length` ids, half from its
    beginning and half from its end, in order; if `max_length` is odd, the beginning has one more.
    `max_length` is 1 or more.
    """

    signature = "keep_both_ends(ids: list[int], max_length: int) -> list[int]"

    # An input is the number of ids, and how many of them are kept.
    def inputs(self) -> Iterator[tuple]:
        yield from sorted(product(range(12), range(1, 10)), key=sum)
        yield 600, 256

    def arguments(self, count: int, max_length: int) -> tuple:
        return list(range(1, count + 1)), max_length

    def due(self, count: int, max_length: int) -> tuple[list[int], str]:
        ids, _ = self.arguments(count, max_length)
        if count <= max_length:
            return ids, f"{count} of at most {max_length} ids: whole"
        num_last = max_length // 2
        num_first = max_length - num_last
        why = f"{num_first} from the beginning, {num_last} from the end"
        return ids[:num_first] + ids[count - num_last :], why


EXERCISES = (PadToLongest(), LengthBuckets(), PaddingRatio(), BalancedPlan(), KeepBothEnds())
