"""Documents in, blocks out, in constant memory, resumable at any block on any number of consumers.

    a window of 1,000 rows -> filter -> token ids -> rolling buffer -> blocks -> batches

A consumer, one worker of one rank, holds a batch and the windows that its ids come from. Its place
in the stream is a window and a number of its ids: when it goes on from a state, it reads that
window again and skips the ids that are out already.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from llmpipe.arguments import check_choice, check_count
from llmpipe.chunking.blocks import RollingBuffer
from llmpipe.chunking.dataset import IGNORED
from llmpipe.columns import slices, whole_text
from llmpipe.filtering import QualityFilter, judge
from llmpipe.ledger import Entry, Ledger
from llmpipe.streaming.partition import Partition, Span
from llmpipe.streaming.processor import Processor
from llmpipe.streaming.reader import Reader, Window, together
from llmpipe.streaming.resumable import Made, ResumableStream, StreamIterator
from llmpipe.streaming.state import Place
from llmpipe.streaming.workers import to_send

# Tokenized at a time: a window of long documents must not fill the memory with its ids.
SLICE_BYTES = 2**20


class BlockStream(ResumableStream):
    """Blocks of ids, made of documents while they are read.

    Items are dicts of int64 tensors of shape (block_size,), `input_ids` and `labels`, for
    `DataLoader(stream, batch_size=8)`; with `batch_size=8` whole batches (8, block_size), the last
    maybe smaller, for `DataLoader(stream, batch_size=None)`: the same blocks, faster. Labels are
    the ids: a causal language model of `transformers` shifts them itself.

    `documents` is what `open_source` gives, one split as a `Dataset` or `IterableDataset` of
    `datasets`, a table of pandas, Polars or Arrow, a dict of columns, a list of strings, or a
    `Share` of any of them; `num_rows` takes that many from its beginning, however it is divided.
    `tokenizer` is what `load_tokenizer` gives, or takes. `separator` is an id put after every
    document, as `tokenizer.eos_token_id`. `remainder` says what becomes of the last ids of each
    consumer: "drop", or "pad" them to a block, in which case all items carry an `attention_mask`
    too, 0 on padding, where labels are -100. `shuffle` permutes parts of the source, and rows
    within windows of 1,000, anew in every epoch: by `seed` and `set_epoch` alone.

    `num_blocks` is how many blocks an epoch has: of all ranks and workers together, each of which
    gives its part and no more, in whole batches where the stream makes them. It alone gives the
    stream a length: what this rank gives in an epoch. Every consumer has to have its part, so leave
    some blocks to spare; a source of fewer is an error that says how many there were. What was read
    and not given is in the ledger as `past_num_blocks`. A loader that makes the batches has its
    stated length with workers too, if `num_blocks` is a multiple of workers times batch size.

    Every document goes to one worker of one rank; who shards, and how a run resumes, stands in
    `llmpipe.streaming` for each client: `Trainer`, `accelerate`, `StatefulDataLoader`, Lightning.

    Raises TypeError or ValueError for options out of range, what `open_source(...).load` raises,
    and while it is read KeyError, TypeError or ValueError naming a row that is not text, and
    `llmpipe.streaming.reader.SourceError` where the source fails.
    """

    kind, bound_name = "BlockStream", "num_blocks"

    def __init__(
        self,
        documents: Any,
        tokenizer: Any,
        block_size: int = 128,
        *,
        split: str = "train",
        num_rows: int | None = None,
        num_blocks: int | None = None,
        text_column: str = "text",
        filter: QualityFilter | None = None,
        separator: int | None = None,
        remainder: str = "drop",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_choice("remainder", remainder, ("drop", "pad"))
        self.block_size, self.remainder = check_count("block_size", block_size, 1), remainder
        processor = Processor.of(
            documents,
            tokenizer,
            {text_column: whole_text},
            split=split,
            num_rows=num_rows,
            quality=filter,
            separator=separator,
            block_size=self.block_size,
        )
        if remainder == "pad":
            check_count("pad_id", processor.tokenizer.pad_id, 0, processor.tokenizer.vocab_size)
        place = {"shuffle": shuffle, "seed": seed, "rank": rank, "world_size": world_size}
        super().__init__(processor, bound=num_blocks, batch_size=batch_size, **place)

    def _iterator(self, partition: Partition, place: Place) -> BlockIterator:
        return BlockIterator(self, partition, place)

    @property
    def _nothing(self) -> Ledger:
        return self._judged(np.zeros(0, np.int8), 0)

    def _ledger(self, place: Place) -> Ledger:
        """What is done, the windows that are open, and blocks for all ids that did not end so."""
        none = Ledger(Entry("chunk", "ids", added={"padding": 0}, dropped={"remainder": 0}))
        found = place.done + self._opened(place.left) + none
        in_blocks = found["tokenize", "ids"].num_out - found["chunk", "ids"].num_in
        return (found + Ledger(Entry("chunk", "ids", in_blocks, in_blocks))).check()

    def _opened(self, spans: list[Span]) -> Ledger:
        """What the open windows among spans have given out so far, and their rows."""
        rows, ids, documents = (
            sum(getattr(span, name) for span in spans) for name in ("rows", "skip", "documents")
        )
        read = Entry("filter", "documents", rows, remainder=rows)
        return Ledger(read, self._tokenized(ids, documents))

    def _num_out(self, place: Place) -> int:
        return self._ledger(place)["chunk", "ids"].num_out // self.block_size

    def _judged(self, verdicts: np.ndarray, ids: int) -> Ledger:
        """What became of a window that is done: its rows, and the ids of those that were kept."""
        rules = self.processor.rules
        kept, *dropped = np.bincount(verdicts, minlength=len(rules) + 1).tolist()
        reasons = dict(zip(rules, dropped, strict=True))
        return Ledger(
            Entry("filter", "documents", len(verdicts), kept, dropped=reasons),
            Entry("tokenize", "documents", kept, kept),
            self._tokenized(ids, kept),
        )

    def _tokenized(self, ids: int, documents: int) -> Entry:
        separators = documents * (self.processor.separator is not None)
        return Entry(
            "tokenize", "ids", 0, ids, added={"text": ids - separators, "separator": separators}
        )


class OpenWindow:
    """A window whose ids are not all out: of them `num_ids` were made so far.

    `start` counts the ids that this pass had before them. `ends` says where documents end.
    """

    def __init__(self, window: Window, verdicts: np.ndarray, ids_before: int) -> None:
        self.window, self.verdicts = window, verdicts
        self.start, self.num_ids = ids_before - window.span.skip, 0
        self.ends = [np.zeros(0, np.int64)]
        self.is_whole = False

    def add(self, offsets: np.ndarray) -> None:
        self.ends.append(self.num_ids + offsets[1:])
        self.num_ids += int(offsets[-1])

    def close(self) -> None:
        """All its ids are made; if there are none its text is done with, however long the block
        before it waits."""
        self.is_whole = True
        if not self.num_ids:
            self.window.columns = []

    def left(self, num_given: int) -> list[Span]:
        """What is left once `num_given` ids of this pass are out."""
        skip = num_given - self.start
        documents = int(np.searchsorted(np.concatenate(self.ends), skip, side="right"))
        # More where the pass went on within the window, and has not yet made those ids again.
        documents = max(documents, self.window.span.documents)
        return self.window.left(skip, len(self.verdicts), documents)


class BlockIterator(StreamIterator):
    """One consumer's pass over what `place` has left: items, and after each of them the place."""

    def __init__(self, stream: BlockStream, partition: Partition, place: Place) -> None:
        super().__init__()
        self.stream, self.partition = stream, partition
        self._left, self._done = place.left, place.done  # after the windows that are all out
        self._start, self._num_due = place, place.num_due
        self._num_to_make = sys.maxsize if place.num_due is None else place.num_due  # blocks
        self._open: deque[OpenWindow] = deque()
        self._buffer = RollingBuffer(stream.block_size)
        self._num_made = self._num_given = 0  # ids

    def _make(self) -> Iterator[Made]:
        """The items, each with the number of ids in it that are no padding."""
        size = self.stream.batch_size or 1
        waiting = np.zeros((0, self.stream.block_size), np.uint32)
        for blocks in self._blocks():
            blocks = np.concatenate((waiting, blocks)) if len(waiting) else blocks
            blocks = blocks[: self._num_to_make]
            is_last = len(blocks) == self._num_to_make
            ready = len(blocks) if is_last else len(blocks) - len(blocks) % size
            self._num_to_make -= ready
            yield from self._items(blocks[:ready])
            waiting = blocks[ready:].copy()  # and not a view that keeps a whole slice
        if not self._num_to_make:
            return
        num_left = len(self._buffer.remainder)
        last = self._buffer.finish(self.stream.remainder, self.stream.processor.tokenizer.pad_id)
        last_blocks = np.concatenate((waiting, last))
        yield from self._items(last_blocks, last.size and last.size - num_left)
        num_missing = self._num_to_make - len(last_blocks)
        if self._num_due is not None and num_missing:
            raise self.stream._too_few(self._start, num_missing)

    def _blocks(self) -> Iterator[np.ndarray]:
        """Blocks of shape (0 or more, block_size), slice of documents by slice.

        Up to the end of the window in which the last one that is due is full.
        """
        if not self._num_to_make:
            return
        processor = self.stream.processor
        rows_read = self._done["filter", "documents"].num_in
        read = Reader(processor, self.partition, rows_read).windows(self._left)
        # Not where the epoch is bounded: windows beyond the bound would be read or not by chance.
        ahead = getattr(processor.parts, "is_local", False) and self._num_due is None
        for windows in together(read, SLICE_BYTES) if ahead else ([window] for window in read):
            texts = windows[0].columns[0]
            if len(windows) > 1:  # in one chunk: what is done for each would be done for few rows
                chunks = [chunk for window in windows for chunk in window.columns[0].chunks]
                texts = pa.chunked_array([pa.concat_arrays(chunks)])
            verdicts, kept = judge(texts, processor.rules)
            self._settle()
            if len(windows) == 1:
                opened = self._open_window(windows[0], verdicts)
                for start, stop in slices(kept, SLICE_BYTES):
                    ids, offsets = processor.encode(kept.slice(start, stop - start))
                    yield self._buffer.push(self._new_ids(opened, ids, offsets))
                opened.close()
            else:
                yield self._buffer.push(self._ids_of_all(windows, verdicts, kept))
            if not self._num_to_make:
                return

    def _ids_of_all(
        self, windows: list[Window], verdicts: np.ndarray, kept: pa.ChunkedArray
    ) -> np.ndarray:
        """The ids of several windows, made by one call of the tokenizer."""
        ids, offsets = self.stream.processor.encode(kept)
        made, row, first = [], 0, 0
        for window in windows:
            own = verdicts[row : row + len(window.rows)]
            row, last = row + len(own), first + len(own) - np.count_nonzero(own)
            start, stop = offsets[first], offsets[last]
            opened = self._open_window(window, own)
            made.append(self._new_ids(opened, ids[start:stop], offsets[first : last + 1] - start))
            opened.close()
            first = last
        return np.concatenate(made)

    def _open_window(self, window: Window, verdicts: np.ndarray) -> OpenWindow:
        self._open.append(OpenWindow(window, verdicts, self._num_made))
        return self._open[-1]

    def _new_ids(self, opened: OpenWindow, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The ids without those that are out already; they are counted."""
        skip = min(max(0, opened.window.span.skip - opened.num_ids), len(ids))
        opened.add(offsets)
        self._num_made += len(ids) - skip
        return ids[skip:]

    def _items(self, blocks: np.ndarray, num_padding: int = 0) -> Iterator[Made]:
        size, batch_size = self.stream.block_size, self.stream.batch_size
        masked = self.stream.remainder == "pad"
        left = blocks.size - num_padding
        for item in make_batches(blocks, batch_size, masked, num_padding):
            num_ids = min(left, size * (batch_size or 1))
            left -= num_ids
            yield item, num_ids

    def _give(self, num_ids: int) -> None:
        """An item of so many ids is out."""
        self._num_given += num_ids
        if self._num_due is not None:
            self._num_due -= -(-num_ids // self.stream.block_size)

    def _finish(self) -> None:
        """All items are out; what became of the last ids is in the ledger."""
        num_left = self._num_made - self._num_given
        self._num_given = self._num_made
        self._settle()
        # The bound came before the end: windows of others that were to be read again stay so.
        self._done = self._done + self.stream._opened(self._left)
        reason = "past_num_blocks" if self._num_due == 0 else "remainder"
        padding = self._buffer.ledger["chunk", "ids"].padded
        in_last = (self.stream.block_size - padding) if padding else 0
        self._done = self._done + Ledger(
            Entry(
                "chunk",
                "ids",
                num_left + in_last,
                in_last + padding,
                added={"padding": padding},
                dropped={reason: num_left},
            )
        )
        self._left = []

    @property
    def place(self) -> Place:
        self._settle()
        left = self._open[0].left(self._num_given) if self._open else self._left
        return Place(left, self._done, num_due=self._num_due)

    def _settle(self) -> None:
        """Windows that are all out are done."""
        done = []
        while self._open and self._open[0].is_whole:
            if self._open[0].start + self._open[0].num_ids > self._num_given:
                break
            done.append(self._open.popleft())
        if done:
            self._left = done[-1].window.after
            verdicts = np.concatenate([opened.verdicts for opened in done])
            num_ids = sum(opened.num_ids for opened in done)
            self._done = self._done + self.stream._judged(verdicts, num_ids)


def make_batches(
    blocks: np.ndarray, batch_size: int | None, masked: bool = False, num_padding: int = 0
) -> Iterator[dict]:
    """Items out of blocks of shape (n, T): one a block, or batches (B, T), the last maybe smaller.

    Each holds `input_ids`, `labels`, which are the same ids, and if `masked` an `attention_mask`.
    The last `num_padding` ids of the last block are padding: 0 in the mask, -100 in the labels.
    They go by place and not by value, since an id that pads may be one of the text as well.

    >>> item, = make_batches(np.array([[5, 6, 6]]), batch_size=None, masked=True, num_padding=1)
    >>> {name: tensor.tolist() for name, tensor in item.items()}
    {'input_ids': [5, 6, 6], 'labels': [5, 6, -100], 'attention_mask': [1, 1, 0]}
    """
    if not len(blocks):
        return
    # Copied by NumPy: torch would wake its threads for so many ids, and wait for busy cores.
    input_ids = blocks.astype(np.int64)
    arrays = {"input_ids": input_ids, "labels": input_ids.copy()}
    if masked:
        arrays["attention_mask"] = np.ones_like(input_ids)
        if num_padding:
            arrays["labels"][-1, -num_padding:] = IGNORED
            arrays["attention_mask"][-1, -num_padding:] = 0
    columns = map(torch.from_numpy, arrays.values())
    parts = (c.split(batch_size) if batch_size else c.unbind() for c in columns)
    for row in zip(*parts, strict=True):
        yield to_send(arrays, row, is_batch=batch_size is not None)
