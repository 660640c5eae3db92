"""The bugs of Lab 1: ids lost at the edge of every map batch, and joining in quadratic time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmpipe.arguments import check_count
from llmpipe.chunking.blocks import RollingBuffer, chunk
from llmpipe.classroom.bugs.bug import Bug
from llmpipe.ledger import Entry, Ledger

REMAINDER_LOST = "end of a map batch"


def group(
    documents: Sequence[Any], block_size: int, batch_size: int = 1000, *, broken: bool = False
) -> tuple[np.ndarray, Ledger]:
    """Cut documents, each a row of ids, into blocks of shape (num_blocks, block_size).

    They come `batch_size` at a time, as in `dataset.map(batched=True)`. Broken, every batch is cut
    for itself and its last ids are dropped; else they wait for the next batch. The ledger says
    which.

    >>> blocks, ledger = group([[1, 2, 3], [4, 5], [6]], block_size=3, batch_size=2, broken=True)
    >>> blocks.tolist(), ledger["chunk", "ids"].dropped
    ([[1, 2, 3]], {'end of a map batch': 3})
    >>> group([[1, 2, 3], [4, 5], [6]], block_size=3, batch_size=2)[0].tolist()
    [[1, 2, 3], [4, 5, 6]]

    Raises what `check_count` and `chunk` raise.
    """
    check_count("batch_size", batch_size, 1)
    none = np.zeros(0, np.uint32)
    batches = [
        np.concatenate(
            [none, *documents[start : start + batch_size]], dtype=np.uint32, casting="unsafe"
        )
        for start in range(0, len(documents), batch_size)
    ]
    buffer = RollingBuffer(block_size)
    if not broken:
        blocks = [buffer.push(ids) for ids in batches]
        return np.concatenate([chunk(none, block_size).blocks, *blocks]), buffer.ledger
    cut = [chunk(ids, block_size) for ids in batches]
    blocks = np.concatenate([chunk(none, block_size).blocks, *(part.blocks for part in cut)])
    lost = sum(part.remainder.size for part in cut)
    entry = Entry("chunk", "ids", blocks.size + lost, blocks.size, dropped={REMAINDER_LOST: lost})
    return blocks, Ledger(entry)


def ids_lost(
    lengths: Sequence[int], block_size: int, batch_size: int, *, broken: bool = True
) -> int:
    """Ids dropped when documents of these lengths are grouped, counted by doing it.

    >>> ids_lost([5] * 10, block_size=4, batch_size=3), ids_lost([5] * 10, 4, 10)
    (10, 2)
    """
    documents = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    entry = group(documents, block_size, batch_size, broken=broken)[1]["chunk", "ids"]
    return sum(entry.dropped.values())


def _batching_matters(broken: bool) -> str | None:
    documents = np.split(np.arange(50), 10)
    whole, _ = group(documents, block_size=4, batch_size=10, broken=broken)
    for batch_size in range(1, 10):
        blocks, ledger = group(documents, block_size=4, batch_size=batch_size, broken=broken)
        if not np.array_equal(blocks, whole):
            lost = sum(ledger["chunk", "ids"].dropped.values())
            return (
                f"10 documents of 5 ids in blocks of 4: all at once give {len(whole)} blocks, "
                f"{batch_size} at a time {len(blocks)}, and {lost} of 50 ids are gone"
            )
    return None


def join(
    lists: Sequence[list[int]], start: list[int] | None = None, *, broken: bool = False
) -> list[int]:
    """One list of all the ids in `lists`. Broken, by `sum(lists, [])`: the same, but slower.

    `sum` makes a new list at every step and copies into it all that it has so far. `start` is an
    empty list to begin with, if not a new one.

    >>> join([[1, 2], [3]]), join([[1, 2], [3]], broken=True)
    ([1, 2, 3], [1, 2, 3])
    """
    joined = [] if start is None else start
    if broken:
        return sum(lists, joined)
    for ids in lists:
        joined += ids
    return joined


class _CountedList(list):
    """A list that counts the ids copied by `+` and `+=` on the way to it."""

    copied = 0

    def __add__(self, other: list) -> _CountedList:
        result = _CountedList(list.__add__(self, other))
        result.copied = self.copied + len(result)
        return result

    def __iadd__(self, other: list) -> _CountedList:
        self.copied += len(other)
        self.extend(other)
        return self


def ids_copied(lists: Sequence[list[int]], *, broken: bool = True) -> int:
    """How many ids are copied to join `lists`: a measure of work that no other process disturbs.

    >>> ids_copied([[7]] * 4), ids_copied([[7]] * 4, broken=False)
    (10, 4)
    """
    return join(lists, _CountedList(), broken=broken).copied


def join_seconds(
    sizes: Sequence[int], *, broken: bool = True, ids_per_document: int = 140
) -> list[float]:
    """Seconds to join so many documents, for each of `sizes`; WikiText-2's have 140 ids each.

    Broken, 1,000 documents take a tenth of a second, 16,000 half a minute or more.
    """
    seconds = []
    for size in sizes:
        lists = [list(range(ids_per_document)) for _ in range(size)]
        started = time.perf_counter()
        join(lists, broken=broken)
        seconds.append(time.perf_counter() - started)
    return seconds


def _work_outgrows_ids(broken: bool) -> str | None:
    small, large = [[7] * 5] * 10, [[7] * 5] * 20
    work = [ids_copied(lists, broken=broken) for lists in (small, large)]
    if work == [50, 100]:
        return None
    return (
        f"50 ids in 10 lists cost {work[0]} copies, 100 ids in 20 lists {work[1]}: "
        f"{work[1] / work[0]:.1f} times the work for twice the ids"
    )


BUGS = (
    Bug(
        name="remainder_lost",
        story="Grouping inside dataset.map(batched=True) sees one batch of 1,000 documents at a "
        "time, and what does not fill a block at its end is dropped (or, in the thread, passed on "
        "as a block too short for the model).",
        invariant="Blocks do not depend on how documents were batched on their way in.",
        thread="https://github.com/huggingface/transformers/issues/23424",
        switch=group,
        violation=_batching_matters,
    ),
    Bug(
        name="quadratic_join",
        story="sum(lists, []) joins lists in time that grows with the square of their number: "
        "each step copies all that came before it.",
        invariant="Twice the documents are twice the work: every id is copied once.",
        thread="https://github.com/huggingface/transformers/pull/14472",
        switch=join,
        violation=_work_outgrows_ids,
    ),
)
