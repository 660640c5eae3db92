"""Exercises whose answer is a generator: what it yields counts, and how early it does so."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Iterator
from typing import Any

from llmpipe.kit.exercise import Exercise


def numbered(lengths: list[int]) -> list[list[int]]:
    """Documents of these lengths, ids counted on from 1: one lost or doubled can be seen.

    >>> numbered([2, 0, 1])
    [[1, 2], [], [3]]
    """
    ids = itertools.count(1)
    return [list(itertools.islice(ids, length)) for length in lengths]


def blocks_due(documents: list[list[int]], block_size: int) -> list[list]:
    """Each block, and how many documents one must have read to fill it.

    >>> blocks_due([[1, 2], [3]], block_size=1)
    [[[1], 1], [[2], 1], [[3], 2]]
    """
    ids = [(one, count) for count, document in enumerate(documents, 1) for one in document]
    ends = range(block_size, len(ids) + 1, block_size)
    return [[[one for one, _ in ids[end - block_size : end]], ids[end - 1][1]] for end in ends]


def uneven_lengths() -> Iterator[tuple[list[int], int]]:
    """Lengths of documents, and a block size: all of the smallest, then some larger."""
    small = [
        (list(lengths), block_size)
        for count in range(4)
        for lengths in itertools.product(range(4), repeat=count)
        for block_size in range(1, 5)
    ]
    yield from sorted(small, key=lambda data: len(data[0]) + sum(data[0]) + data[1])
    chooser = random.Random(0)
    for count in range(4, 24):
        yield chooser.choices(range(30), k=count), chooser.randrange(1, 17)
    yield [200], 8


class StreamExercise(Exercise):
    """The answer gets an iterator of documents; each item counts with how many were read by then.

    So an output is a list of (item, number of documents read), and an answer that reads them all
    before it yields is wrong.
    """

    def output(self, answer: Any, *data: Any) -> list[tuple[Any, int]]:
        documents, *options = self.arguments(*data)
        num_read = 0

        def reading() -> Iterator[Any]:
            nonlocal num_read
            for document in documents:
                num_read += 1
                yield document

        # Items as they are: a list that is yielded and emptied later comes out empty.
        return [(item, num_read) for item in answer(reading(), *options)]

    def shown_output(self, value: list) -> str:
        items = [f"{item!r} after {read} document{'s' * (read != 1)}" for item, read in value]
        return ", ".join(items) or "nothing"


class RollingBlocks(StreamExercise):
    """An input is the lengths of the documents and the block size."""

    name = "rolling_blocks"
    signature = "rolling_blocks(documents, block_size: int)"
    task = (
        "**Exercise 1: a rolling buffer.** Write `rolling_blocks(documents, block_size)`, a "
        "generator. `documents` is an iterator of lists of ids. Join all ids in order, across "
        "documents, and yield lists of `block_size` ids: each as soon as it is full, before the "
        "next document is read. A long document fills several. Ids left over at the end are "
        "dropped."
    )

    def inputs(self) -> Iterator[tuple]:
        return uneven_lengths()

    def allowed(self, lengths: list[int], block_size: int) -> bool:
        return block_size >= 1

    def arguments(self, lengths: list[int], block_size: int) -> tuple:
        return numbered(lengths), block_size

    def due(self, lengths: list[int], block_size: int) -> list:
        return blocks_due(numbered(lengths), block_size)

    def why(self, lengths: list[int], block_size: int) -> str:
        num_ids = sum(lengths)
        return f"ids: {num_ids}, left over: {num_ids % block_size}; a block comes once it is full"

    def shown(self, lengths: list[int], block_size: int) -> str:
        return f"{self.name}(iter({numbered(lengths)}), block_size={block_size})"


class RollingBlocksWithEnds(StreamExercise):
    """As `RollingBlocks`, and the id that is put after every document."""

    name = "rolling_blocks_with_ends"
    signature = "rolling_blocks_with_ends(documents, block_size: int, end_id: int)"
    task = (
        "**Exercise 2: where a document ends.** Write "
        "`rolling_blocks_with_ends(documents, block_size, end_id)`: as in exercise 1, but `end_id` "
        "comes after every document, the last one and empty ones too, and counts as an id of that "
        "document: a block that it fills is yielded before the next document is read."
    )

    def inputs(self) -> Iterator[tuple]:
        for lengths, block_size in uneven_lengths():
            for end_id in (0, 50256):
                if self.allowed(lengths, block_size, end_id):
                    yield lengths, block_size, end_id

    def allowed(self, lengths: list[int], block_size: int, end_id: int) -> bool:
        num_ids = sum(lengths)
        if lengths and not num_ids:
            return False  # or every counterexample would be one empty document
        # No id of the text: a reader could not tell them apart.
        return block_size >= 1 and (end_id == 0 or end_id > num_ids)

    def arguments(self, lengths: list[int], block_size: int, end_id: int) -> tuple:
        return numbered(lengths), block_size, end_id

    def due(self, lengths: list[int], block_size: int, end_id: int) -> list:
        return blocks_due([[*ids, end_id] for ids in numbered(lengths)], block_size)

    def why(self, lengths: list[int], block_size: int, end_id: int) -> str:
        num_ids, num_ends = sum(lengths), len(lengths)
        left_over = (num_ids + num_ends) % block_size
        return f"ids: {num_ids}, ends: {num_ends}, left over: {left_over}"

    def shown(self, lengths: list[int], block_size: int, end_id: int) -> str:
        documents = f"iter({numbered(lengths)})"
        return f"{self.name}({documents}, block_size={block_size}, end_id={end_id})"


class SplitStream(StreamExercise):
    name = "split_stream"
    signature = "split_stream(documents, part: str, every: int)"
    task = (
        "**Exercise 4: streams that never overlap.** Write "
        "`split_stream(documents, part, every)`, a generator over an iterator of texts. A text "
        'belongs to `"validation"` if `zlib.crc32` of its UTF-8 bytes is divisible by `every`, '
        'else to `"train"`. Yield the texts of `part` in order, repeated ones too, each before the '
        "next is read. Why not choose by position?"
    )
    PARTS = ("train", "validation")

    def inputs(self) -> Iterator[tuple]:
        texts = ["", *"abcdefghijklmnopqrstuvwxyz", "É", "中文", "the cat", " = Title = \n"]
        chooser = random.Random(0)
        for every in (2, 1, 3, 10):
            for part in self.PARTS:
                yield [], part, every
                for text in texts:
                    yield [text], part, every
            for count in range(2, 30):
                few = chooser.sample(texts, k=6)  # so that they are repeated
                yield chooser.choices(few, k=count), chooser.choice(self.PARTS), every

    def allowed(self, documents: list[str], part: str, every: int) -> bool:
        return part in self.PARTS and every >= 1

    def left_over(self, documents: list[str], every: int) -> list[int]:
        return [zlib.crc32(text.encode("utf-8")) % every for text in documents]

    def due(self, documents: list[str], part: str, every: int) -> list:
        parts = [self.PARTS[left == 0] for left in self.left_over(documents, every)]
        return [
            [text, count]
            for count, (text, its_part) in enumerate(zip(documents, parts, strict=True), 1)
            if its_part == part
        ]

    def why(self, documents: list[str], part: str, every: int) -> str:
        return f"crc32 % {every} of each: {self.left_over(documents, every)}"

    def shown(self, documents: list[str], part: str, every: int) -> str:
        return f"{self.name}(iter({documents}), {part!r}, every={every})"
