"""The exercises of Lab 2: streams, one that can be resumed, and the log they leave."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise, product
from typing import Any

from llmpipe.classroom.exercises.exercise import Exercise
from llmpipe.classroom.exercises.shared import numbered, small_lists


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
    yield from small_lists(range(4), 3, range(1, 5))
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

    def shown_first(self, value: list) -> str:
        return f"iter({value})"

    def shown_output(self, value: list) -> str:
        items = [f"{item!r} after {read} document{'s' * (read != 1)}" for item, read in value]
        return ", ".join(items) or "nothing"


class RollingBlocks(StreamExercise):
    """**Exercise 1: a rolling buffer.** Write `rolling_blocks(documents, block_size)`, a
    generator. `documents` is an iterator of lists of ids. Join all ids in order, across documents,
    and yield lists of `block_size` ids: each as soon as it is full, before the next document is
    read. A long document fills several. Ids left over at the end are dropped.
    """

    signature = "rolling_blocks(documents, block_size: int)"

    # An input is the lengths of the documents and the block size.
    def inputs(self) -> Iterator[tuple]:
        return uneven_lengths()

    def arguments(self, lengths: list[int], *options: int) -> tuple:
        return numbered(lengths), *options

    def due(self, lengths: list[int], block_size: int) -> tuple[list, str]:
        left_over = sum(lengths) % block_size
        why = f"ids: {sum(lengths)}, left over: {left_over}; a block comes once it is full"
        return blocks_due(numbered(lengths), block_size), why


class BlocksWithEnds(RollingBlocks):
    """**Exercise 2: where a document ends.** Write `rolling_blocks_with_ends(documents,
    block_size, end_id)`: as in exercise 1, but `end_id` comes after every document, the last one
    and empty ones too, and counts as an id of that document: a block that it fills is yielded
    before the next document is read.
    """

    signature = "rolling_blocks_with_ends(documents, block_size: int, end_id: int)"

    # As `RollingBlocks`, and the id that is put after every document.
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
        return end_id == 0 or end_id > num_ids

    def due(self, lengths: list[int], block_size: int, end_id: int) -> tuple[list, str]:
        left_over = (sum(lengths) + len(lengths)) % block_size
        why = f"ids: {sum(lengths)}, ends: {len(lengths)}, left over: {left_over}"
        return blocks_due([[*ids, end_id] for ids in numbered(lengths)], block_size), why


class ResumableBlocks(Exercise):
    """**Exercise 3: stop and resume.** Write `ResumableBlocks(documents, block_size)`, an iterator
    over exercise 1's blocks. `state_dict()` works at any time, even after the end, and disturbs
    nothing. Its state goes through JSON into `load_state_dict` of a new object on the same
    documents, which then yields the blocks still due. At most `block_size + 8` numbers a state,
    however long the documents.
    """

    signature = "ResumableBlocks(documents: list[list[int]], block_size: int)"
    stub = """class ResumableBlocks:
    def __init__(self, documents: list[list[int]], block_size: int):
        raise NotImplementedError

    def __iter__(self):
        return self

    def __next__(self) -> list[int]:
        raise NotImplementedError

    def state_dict(self) -> dict:
        raise NotImplementedError

    def load_state_dict(self, state: dict) -> None:
        raise NotImplementedError"""
    BESIDES_IDS = 8  # places, counts and the like

    # An input is the lengths, the block size, and how many blocks are taken before the state.
    # An output is all blocks of the object that went on, those of the one that loaded its
    # state, and how many numbers were in the state if they were too many, else 0.
    def inputs(self) -> Iterator[tuple]:
        for lengths, block_size in uneven_lengths():
            for num_taken in range(sum(lengths) // block_size + 2):
                yield lengths, block_size, num_taken

    def allowed(self, lengths: list[int], block_size: int, num_taken: int) -> bool:
        return num_taken <= sum(lengths) // block_size + 1

    def arguments(self, lengths: list[int], block_size: int, num_taken: int) -> tuple:
        return numbered(lengths), block_size

    def output(self, answer: Any, lengths: list[int], block_size: int, num_taken: int) -> tuple:
        first = answer(*self.arguments(lengths, block_size, num_taken))
        blocks = iter(first)
        all_blocks = list(islice(blocks, num_taken))
        state = first.state_dict()
        all_blocks.extend(blocks)
        # Only now: a state that shares the buffer of the first has changed with it.
        text = json.dumps(state)
        second = answer(*self.arguments(lengths, block_size, num_taken))
        second.load_state_dict(json.loads(text))
        size = len(re.findall(r"\d+", text))
        return all_blocks, list(second), size if size > block_size + self.BESIDES_IDS else 0

    def due(self, lengths: list[int], block_size: int, num_taken: int) -> tuple[list, str]:
        blocks = [block for block, _ in blocks_due(numbered(lengths), block_size)]
        limit = block_size + self.BESIDES_IDS
        why = f"blocks: {len(blocks)}, numbers in the state: at most {limit}"
        return [blocks, blocks[num_taken:], 0], why

    def shown(self, lengths: list[int], block_size: int, num_taken: int) -> str:
        call = super().shown(lengths, block_size, num_taken)
        if num_taken > sum(lengths) // block_size:
            return f"{call}, state after its end"
        return f"{call}, state after {num_taken} block{'s' * (num_taken != 1)}"

    def shown_output(self, value: list) -> str:
        all_blocks, resumed, too_many = value
        size = f", numbers in the state: {too_many}" if too_many else ""
        return f"in all {all_blocks}, resumed {resumed}{size}"


class SplitStream(StreamExercise):
    """**Exercise 4: streams that never overlap.** Write `split_stream(documents, part, every)`, a
    generator over an iterator of texts. A text belongs to `"validation"` if `zlib.crc32` of its
    UTF-8 bytes is divisible by `every`, else to `"train"`. Yield the texts of `part` in order,
    repeated ones too, each before the next is read. Why not choose by position?
    """

    signature = "split_stream(documents, part: str, every: int)"
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
        return part in self.PARTS

    def due(self, documents: list[str], part: str, every: int) -> tuple[list, str]:
        left_over = [zlib.crc32(text.encode("utf-8")) % every for text in documents]
        texts = [
            [text, count]
            for count, (text, left) in enumerate(zip(documents, left_over, strict=True), 1)
            if self.PARTS[left == 0] == part
        ]
        return texts, f"crc32 % {every} of each: {left_over}"


class TokensPerS(Exercise):
    """**Exercise 5: a rate from a log.** A monitor line tells totals so far; `documents` may be
    missing: `2026-11-25T10:00:01.250 step 20 tokens 20480 documents 161 memory_bytes 310378496`.
    Write `tokens_per_s(lines)`: tokens between first and last such line, by the seconds between
    them; 0.0 without two lines or time between. Other lines, some empty, lack the second word
    `step`.
    """

    signature = "tokens_per_s(lines: list[str]) -> float"
    STARTS = (
        "2026-11-25T10:00:00",
        "2026-11-25T10:59:59",
        "2026-11-25T23:59:59",
        "2026-12-31T23:59:59",
    )
    OTHERS = (
        "",
        "train",
        "2026-11-25T10:00:00.500 epoch 1 of 3",
        "Token indices sequence length is longer than the maximum (1100 > 1024)",
        "saved after step 20",
    )

    # An input is a list of entries, and the index of the time at which they start. An entry is
    # [quarters of a second since then, tokens] or [..., ..., documents], for a line of the
    # monitor, or the text of another line.
    def inputs(self) -> Iterator[tuple]:
        yield [], 0
        for other in self.OTHERS:
            yield [other], 0
        for tokens, num_ticks, more, start in product(
            (0, 8), (4, 0, 1, 10), (0, 1, 20), range(len(self.STARTS))
        ):
            first, last = [2, tokens], [2 + num_ticks, tokens + more, 3]
            yield [first], start
            yield [first, last], start
            for other in self.OTHERS:
                yield [other, first, other, last, other], start
        chooser = random.Random(0)
        for count in range(3, 40):
            ticks, tokens = (sorted(chooser.choices(range(400), k=count)) for _ in range(2))
            entries = [
                chooser.choice(([*pair], [*pair, 7], chooser.choice(self.OTHERS)))
                for pair in zip(ticks, tokens, strict=True)
            ]
            yield entries, chooser.randrange(len(self.STARTS))

    def monitored(self, entries: list) -> list[list[int]]:
        return [entry for entry in entries if isinstance(entry, list)]

    def allowed(self, entries: list, start: int) -> bool:
        lines, others = self.monitored(entries), [one for one in entries if isinstance(one, str)]
        if any(len(line) not in (2, 3) for line in lines) or not 0 <= start < len(self.STARTS):
            return False
        ascend = all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(lines))
        return ascend and all(other.split()[1:2] != ["step"] for other in others)

    def due(self, entries: list, start: int) -> tuple[float, str]:
        lines = self.monitored(entries)
        first, last = (lines[0], lines[-1]) if lines else ([0, 0], [0, 0])
        seconds, tokens = (last[0] - first[0]) / 4, last[1] - first[1]
        why = f"monitor lines: {len(lines)}, tokens: {tokens} in {seconds:g} s"
        return tokens / seconds if seconds else 0.0, why

    def arguments(self, entries: list, start: int) -> tuple:
        begin, lines = datetime.fromisoformat(self.STARTS[start]), entries.copy()
        for step, entry in enumerate(entries):
            if isinstance(entry, list):
                ticks, tokens, *documents = entry
                stamp = (begin + timedelta(seconds=ticks / 4)).isoformat(timespec="milliseconds")
                known = "".join(f" documents {count}" for count in documents)
                lines[step] = f"{stamp} step {step} tokens {tokens}{known} memory_bytes 310378496"
        return (lines,)


EXERCISES = (RollingBlocks(), BlocksWithEnds(), ResumableBlocks(), SplitStream(), TokensPerS())
