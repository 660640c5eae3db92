"""The bugs of Lab 2: states from which a stream does not resume, and workers that read it all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from llmpipe.arguments import check_count
from llmpipe.classroom.bugs.bug import Bug

BLOCK_SIZE = 4
DOCUMENTS = ((0, 1, 2, 3, 4), (5, 6), (7, 8, 9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19))


class ResumableBlocks:
    """Blocks of `block_size` ids, cut from documents of any lengths; resumable after every block.

    Iterating continues where the stream stands; ids that fill no last block stay in `buffer`.

    >>> stream = ResumableBlocks([[0, 1], [2, 3, 4, 5]], block_size=3)
    >>> next(iter(stream)), stream.state_dict()
    ([0, 1, 2], {'next_document': 2, 'buffer': [3, 4, 5]})
    """

    def __init__(self, documents: Sequence[Sequence[int]], block_size: int) -> None:
        check_count("block_size", block_size, 1)
        self.documents, self.block_size = documents, block_size
        self.next_document = 0
        self.buffer: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            while len(self.buffer) < self.block_size:
                if self.next_document == len(self.documents):
                    return
                self.buffer.extend(self.take_document())
            yield self.cut_block()

    def take_document(self) -> Sequence[int]:
        ids = self.documents[self.next_document]
        self.next_document += 1
        return ids

    def cut_block(self) -> list[int]:
        block = self.buffer[: self.block_size]
        del self.buffer[: self.block_size]
        return block

    def state_dict(self) -> dict:
        return {"next_document": self.next_document, "buffer": self.buffer.copy()}

    def load_state_dict(self, state: dict) -> None:
        self.next_document, self.buffer = state["next_document"], state["buffer"].copy()


class AliasedState(ResumableBlocks):
    def state_dict(self) -> dict:
        return {"next_document": self.next_document, "buffer": self.buffer}


class EmitBeforeRefill(ResumableBlocks):
    def __iter__(self) -> Iterator[list[int]]:
        while self.next_document < len(self.documents):
            ids = self.take_document()
            # While a block is out, `ids` are a local variable of this generator, in no state.
            while len(self.buffer) >= self.block_size:
                yield self.cut_block()
            self.buffer.extend(ids)
        while len(self.buffer) >= self.block_size:
            yield self.cut_block()


def aliased_state(
    documents: Sequence[Sequence[int]], block_size: int, *, broken: bool = False
) -> ResumableBlocks:
    """A stream of blocks. Broken, its state holds the buffer itself, which every block changes.

    >>> stream = aliased_state(DOCUMENTS, 4, broken=True)
    >>> blocks = iter(stream)
    >>> next(blocks), (state := stream.state_dict())
    ([0, 1, 2, 3], {'next_document': 1, 'buffer': [4]})
    >>> next(blocks), state
    ([4, 5, 6, 7], {'next_document': 1, 'buffer': [8, 9, 10, 11, 12]})

    Raises TypeError or ValueError if `block_size` is not an integer of 1 or more.
    """
    return (AliasedState if broken else ResumableBlocks)(documents, block_size)


def emit_before_refill(
    documents: Sequence[Sequence[int]], block_size: int, *, broken: bool = False
) -> ResumableBlocks:
    """A stream of blocks. Broken, it takes a document, yields a block, and only then refills.

    Uninterrupted, it gives the same blocks as the others.

    >>> for broken in (True, False):
    ...     stream = emit_before_refill(DOCUMENTS, 4, broken=broken)
    ...     print(next(iter(stream)), stream.state_dict())
    [0, 1, 2, 3] {'next_document': 2, 'buffer': [4]}
    [0, 1, 2, 3] {'next_document': 1, 'buffer': [4]}

    Raises TypeError or ValueError if `block_size` is not an integer of 1 or more.
    """
    return (EmitBeforeRefill if broken else ResumableBlocks)(documents, block_size)


class Suffixes(NamedTuple):
    """Blocks, each a list of `block_size` ids: those `due` after a state, and those `resumed`."""

    due: list[list[int]]
    resumed: list[list[int]]


def resumed_after(
    num_blocks: int,
    switch: Callable[..., ResumableBlocks] = aliased_state,
    *,
    broken: bool = True,
    documents: Sequence[Sequence[int]] = DOCUMENTS,
    block_size: int = BLOCK_SIZE,
) -> Suffixes:
    """Take a state after `num_blocks` blocks, read to the end, then resume a new stream from it.

    Unless told, on the ids 0 to 19 in documents of 5, 2, 6, 4 and 3, which are five blocks of 4.

    >>> resumed_after(3)
    Suffixes(due=[[12, 13, 14, 15], [16, 17, 18, 19]], resumed=[[13, 14, 15, 16]])
    >>> resumed_after(3, emit_before_refill)
    Suffixes(due=[[12, 13, 14, 15], [16, 17, 18, 19]], resumed=[[12, 17, 18, 19]])
    >>> resumed_after(3, broken=False).resumed
    [[12, 13, 14, 15], [16, 17, 18, 19]]

    Raises ValueError if `num_blocks` is negative or more than the documents have, and what `switch`
    raises.
    """
    stream, new_stream = (switch(documents, block_size, broken=broken) for _ in range(2))
    all_blocks = sum(map(len, documents)) // block_size
    if not 0 <= num_blocks <= all_blocks:
        raise ValueError(f"num_blocks must be in [0, {all_blocks}], got {num_blocks}")
    blocks = iter(stream)
    list(islice(blocks, num_blocks))
    state = stream.state_dict()
    due = list(blocks)
    new_stream.load_state_dict(state)
    return Suffixes(due, list(new_stream))


def _resuming_matters(switch: Callable[..., ResumableBlocks], broken: bool) -> str | None:
    num_ids = sum(map(len, DOCUMENTS))
    for num_blocks in range(num_ids // BLOCK_SIZE + 1):
        due, resumed = resumed_after(num_blocks, switch, broken=broken)
        if due != resumed:
            return (
                f"{num_ids} ids in blocks of {BLOCK_SIZE}, a state after block {num_blocks}: "
                f"{len(due)} more are due, the first {due[0]}; resumed from it come "
                f"{len(resumed)}, the first {resumed[0]}"
            )
    return None


def every_worker_reads_all(num_rows: int, *, broken: bool = False) -> Any:
    """The row numbers 0 to num_rows - 1 as an `IterableDataset` of torch.

    Under a DataLoader with workers every worker has a copy of it. Broken, each copy gives all rows;
    else row i is given by worker i % num_workers.
    """
    from llmpipe.classroom.bugs.row_numbers import RowNumbers

    return RowNumbers(num_rows, broken=broken)


def rows_read(num_rows: int, num_workers: int = 2, *, broken: bool = True) -> np.ndarray:
    """How many times each row comes out of a real DataLoader: shape (num_rows,).

    >>> rows_read(5).tolist(), rows_read(5, broken=False).tolist()
    ([2, 2, 2, 2, 2], [1, 1, 1, 1, 1])
    """
    from torch.utils.data import DataLoader

    dataset = every_worker_reads_all(num_rows, broken=broken)
    with warnings.catch_warnings():
        # Speed is not the question here: two workers show the same on a machine of one core.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        rows = list(DataLoader(dataset, batch_size=None, num_workers=num_workers))
    return np.bincount(np.array(rows, np.int64), minlength=num_rows)


def _workers_matter(broken: bool) -> str | None:
    num_rows, num_workers = 10, 2
    times = rows_read(num_rows, num_workers, broken=broken)
    if (times == 1).all():
        return None
    return (
        f"{num_rows} rows under {num_workers} loader workers: {times.sum()} come out, a row "
        f"up to {times.max()} times"
    )


BUGS = (
    Bug(
        name="aliased_state",
        story="A state that holds the buffer itself and not a copy is changed by every block that "
        "comes after it (in the thread, while it waits in a prefetching queue): resumed from it, a "
        "stream loses ids or gives them out of place.",
        invariant="What is resumed from a state does not depend on how far its stream went on.",
        thread="https://github.com/meta-pytorch/data/pull/1547",
        switch=aliased_state,
        violation=partial(_resuming_matters, aliased_state),
    ),
    Bug(
        name="emit_before_refill",
        story="A generator that takes a document, yields a block and only then puts the document "
        "into its buffer keeps it, at the yield, in a local variable that no state sees: resumed, "
        "the stream continues without that document.",
        invariant="Resumed after any block, a stream gives the very blocks that were still due.",
        thread="https://github.com/pytorch/torchtitan/pull/3008",
        switch=emit_before_refill,
        violation=partial(_resuming_matters, emit_before_refill),
    ),
    Bug(
        name="every_worker_reads_all",
        story="A DataLoader copies an iterable data set into each of its workers, and a copy that "
        "does not ask which worker it is in reads every row (in the thread, of streamed CSV "
        "files): n workers give each row n times.",
        invariant="Every row comes out once, whatever the number of workers.",
        thread="https://github.com/huggingface/datasets/issues/3423",
        switch=every_worker_reads_all,
        violation=_workers_matter,
    ),
)
