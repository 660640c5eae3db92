"""Labelled text in, padded batches out: constant memory, mixed labels, resumable at any batch.

    windows of several sections -> rows in turn -> groups of about 1,000 -> padded batches

A group is padded at once, and with "buckets" sorted by length. A consumer's place is a number of
rows; where a group was sorted, it is the group and how much of it is out: it is replayed on resume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from llmpipe.arguments import check_choice, check_count
from llmpipe.classification.encoding import (
    Encoder,
    Rows,
    batches_in_order,
    sizes_of,
    widths_of,
)
from llmpipe.classification.interleave import Turns, interleaved
from llmpipe.classification.labels import (
    HINT,
    known_num_labels,
    labelled_checks,
    warn_of_one_class,
)
from llmpipe.columns import WINDOW_ROWS
from llmpipe.ledger import Ledger
from llmpipe.streaming.partition import PER_PART, Partition, Span
from llmpipe.streaming.processor import Processor
from llmpipe.streaming.reader import Reader
from llmpipe.streaming.resumable import Made, ResumableStream, StreamIterator
from llmpipe.streaming.state import OpenGroup, Place
from llmpipe.streaming.workers import to_send

PADDINGS = ("max_length", "longest", "buckets")

# Padded at a time, and with "buckets" sorted by length among themselves: at least as many rows,
# or as many batches. A window's rows: where batches of 8 are made of it, none has to wait for the
# next, and be copied for that.
GROUP_ROWS, GROUP_BATCHES = WINDOW_ROWS, 4


class ClassificationStream(ResumableStream):
    """Padded batches of labelled text, made while it is read.

    With `batch_size=8` items are whole batches for `DataLoader(stream, batch_size=None)`: dicts of
    int64 tensors, `input_ids` and `attention_mask` of shape (8, T) and `labels` of (8,); the last
    may be smaller. Without it they are single rows, of shapes (T,), (T,) and (), for
    `DataLoader(stream, batch_size=8)` and for `Trainer`. Ids are those of `transformers` with
    truncation: `[CLS]` and `[SEP]` stay. Padding is 0 in the mask, and nothing else is.

    `padding` is "max_length" (T is `max_length`), "longest" (T is the longest of a batch; a single
    row is not padded, for `DataCollatorWithPadding`), or "buckets": the longest again, but reviews
    of about a thousand are sorted by length before they are cut into batches, so that little is
    padding.

    `documents`, `split`, `num_rows`, `shuffle`, `seed`, `rank` and `world_size` are as in
    `BlockStream`, and so are states, epochs, and what is to be known about several processes. On
    data sorted by label a consumer must not read one part after the other: up to `cycle_length`
    parts, from all over the source, are open at a time, and rows are taken from them in turn.
    `cycle_length=1` keeps the source's order. A source of a single part cannot be interleaved; a
    RuntimeWarning says so if the first thousand rows have one label.

    `num_labels` is the number of classes; where a data set of `datasets` has a `ClassLabel` it is
    known. `ledger` counts reviews by label, those cut, and ids cut off and added: see
    `llmpipe.classification.labels` for counts and ratios.

    Raises TypeError or ValueError for options out of range, and while it is read KeyError naming
    the columns there are, TypeError or ValueError naming a row whose text or label is none, and
    `llmpipe.streaming.reader.SourceError` where the source fails.
    """

    kind = "ClassificationStream"

    def __init__(
        self,
        documents: Any,
        tokenizer: Any,
        max_length: int = 256,
        *,
        split: str = "train",
        num_rows: int | None = None,
        text_column: str = "text",
        label_column: str = "label",
        num_labels: int | None = None,
        padding: str = "max_length",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        cycle_length: int = 8,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_count("cycle_length", cycle_length, 1, PER_PART + 1)
        if num_labels is not None:
            check_count("num_labels", num_labels, 1)
        check_choice("padding", padding, PADDINGS)
        if padding == "buckets" and batch_size is None:
            raise ValueError("padding='buckets' sorts rows into batches: give a batch_size")
        self.padding, self.encoder = padding, Encoder.of(tokenizer, max_length)
        num_labels = num_labels or known_num_labels(documents, label_column)
        processor = Processor.of(
            documents,
            self.encoder.tokenizer,
            labelled_checks(text_column, label_column, num_labels),
            split=split,
            num_rows=num_rows,
            hint=HINT,
            max_length=max_length,
            cycle_length=cycle_length,
            buckets=f"of {batch_size}" if padding == "buckets" else None,
        )
        place = {"shuffle": shuffle, "seed": seed, "rank": rank, "world_size": world_size}
        super().__init__(processor, batch_size=batch_size, cycle_length=cycle_length, **place)

    def _iterator(self, partition: Partition, place: Place) -> LabelledIterator:
        return LabelledIterator(self, partition, place)

    @property
    def _nothing(self) -> Ledger:
        return self.encoder.ledger(self.encoder.no_rows, padding=0)

    def _ledger(self, place: Place) -> Ledger:
        """What is done, with the labels in order; what is open is counted row by row."""
        read, *others = place.done.check()
        labels = sorted(read.added.items(), key=lambda item: int(item[0].split()[1]))
        return Ledger(replace(read, added=dict(labels)), *others)


class Group(NamedTuple):
    """Rows that are padded together, and the `order` in which they are given out.

    Batches have these `sizes`, and each row so many places (`widths`), both in that order.
    """

    rows: Rows
    order: np.ndarray
    sizes: np.ndarray
    widths: np.ndarray

    def ledger(self, encoder: Encoder, start: int, stop: int) -> Ledger:
        """What became of the rows from `start` to `stop` of the order."""
        rows = self.rows.take(self.order[start:stop])
        padding = int(self.widths[start:stop].sum() - rows.lengths.sum())
        return encoder.ledger(rows, padding)


class LabelledIterator(StreamIterator):
    """One consumer's pass over what `place` has left: items, and after each of them the place.

    Groups that were open are replayed first. Of the first group that is not all out, `_num_out`
    rows are; `_done` has counted `_num_counted` of them.
    """

    def __init__(self, stream: ClassificationStream, partition: Partition, place: Place) -> None:
        super().__init__()
        self.stream, self.partition, self.encoder = stream, partition, stream.encoder
        self._left, self._done = place.left, place.done
        self._replays = deque(place.groups)
        self._groups: deque[Group] = deque()
        self._turns: deque[Turns] = deque()  # of the rows from the first group on
        self._begin_group()

    def _begin_group(self) -> None:
        self._num_out = self._num_counted = self._replays[0].num_given if self._replays else 0

    def _make(self) -> Iterator[Made]:
        """The items, each with the number of its rows."""
        for replay in list(self._replays):
            yield from self._items(self._replayed(replay), replay.num_given)
        size, is_first = self.stream.batch_size or 1, not self._rows_read
        num_rows = size * max(GROUP_BATCHES, GROUP_ROWS // size)
        waiting, source = self.encoder.no_rows, None
        for rows, turns in self._interleaved(self._left):
            self._turns.append(turns)
            num_waiting = len(waiting.labels)
            rows = Rows.join([waiting, rows]) if num_waiting else rows
            ready = len(rows.labels) - len(rows.labels) % num_rows
            if is_first and ready:
                warn_of_one_class(rows.labels[:num_rows], "the first rows")
                is_first = False
            for start in (*range(0, ready, num_rows), ready):
                if num_waiting <= start < len(rows.labels):
                    source = turns.beyond(start - num_waiting).first_row
                if start < ready:
                    group = self._group(rows.take(slice(start, start + num_rows)), source)
                    yield from self._items(group)
            waiting = rows.take(slice(ready, None)).packed()
        if len(waiting.labels):
            if is_first:
                warn_of_one_class(waiting.labels, "these rows")
            yield from self._items(self._group(waiting, source))

    @property
    def _rows_read(self) -> int:
        return self._done["read", "documents"].num_out

    def _interleaved(self, spans: list[Span]) -> Iterator[tuple[Rows, Turns]]:
        reader = Reader(self.stream.processor, self.partition, self._rows_read)
        return interleaved(reader, spans, lambda window: self.encoder.rows(*window.columns))

    def _replayed(self, replay: OpenGroup) -> Group:
        """A group that was open when a state was saved, made again."""
        found, source = [], None
        for rows, turns in self._interleaved(replay.spans):
            found.append(rows)
            source = source or turns.first_row
            if sum(len(rows.labels) for rows in found) >= replay.num_rows:
                break
        rows = Rows.join(found or [self.encoder.no_rows]).take(slice(replay.num_rows))
        group = self._group(rows, source or (0, 0))
        ends = np.cumsum(group.sizes)
        if len(rows.labels) < replay.num_rows or replay.num_given not in ends:
            raise ValueError(
                f"the state is damaged: {replay.num_given} of {replay.num_rows} rows are no whole "
                "batches of a group"
            )
        return group

    def _group(self, rows: Rows, source: tuple[int, int]) -> Group:
        """`source` is where the first row comes from: batches are shuffled by it."""
        num_rows, padding = len(rows.labels), self.stream.padding
        order, sizes = np.arange(num_rows), sizes_of(num_rows, self.stream.batch_size or 1)
        if padding == "buckets":
            batches = self.partition.order(len(sizes), *source, 0)
            order = np.argsort(rows.lengths, kind="stable")[batches_in_order(sizes, batches)]
            sizes = sizes[batches]
        widths = np.full(num_rows, self.encoder.max_length)
        if padding != "max_length":
            widths = widths_of(rows.lengths[order], sizes)
        return Group(rows, order, sizes, widths)

    def _items(self, group: Group, num_out: int = 0) -> Iterator[Made]:
        """The items of a group without those of its first rows."""
        self._groups.append(group)
        batch_size = self.stream.batch_size
        rows, widths = group.rows.take(group.order[num_out:]), group.widths[num_out:]
        sizes = group.sizes[np.cumsum(group.sizes) > num_out]
        # By NumPy: torch would wake its threads for so many ids, and wait for busy cores.
        columns = [*self.encoder.padded(rows, widths), rows.labels.astype(np.int64)]
        batch_widths = widths[np.cumsum(sizes) - 1]
        places, sizes = (sizes * batch_widths).tolist(), sizes.tolist()
        # Cut by torch in one call: a slice of a tensor in Python costs four times as much.
        columns = map(torch.Tensor.split, map(torch.from_numpy, columns), (places, places, sizes))
        for size, width, *row in zip(sizes, batch_widths.tolist(), *columns, strict=True):
            shape = (width,) if batch_size is None else (size, width)
            ids, mask, labels = row
            labels = labels[0] if batch_size is None else labels
            row = (ids.view(shape), mask.view(shape), labels)
            row = to_send(row, shared=batch_size is not None)
            yield dict(zip(("input_ids", "attention_mask", "labels"), row, strict=True)), size

    def _give(self, size: int) -> None:
        """An item of so many rows is out."""
        self._num_out += size
        group = self._groups[0]
        if self._num_out < len(group.order):
            return
        self._done = self._done + group.ledger(self.encoder, self._num_counted, self._num_out)
        self._groups.popleft()
        if self._replays:
            self._replays.popleft()
        else:
            self._turns = deque(self._turns_beyond(self._num_out))
        self._begin_group()

    def _finish(self) -> None:
        self._turns.clear()
        self._left = []

    @property
    def place(self) -> Place:
        done, num_out = self._done, self._num_out
        if num_out > self._num_counted:
            done = done + self._groups[0].ledger(self.encoder, self._num_counted, num_out)
        if self._replays:
            first, *others = self._replays
            return Place(self._left, done, [first._replace(num_given=num_out), *others])
        if self.stream.padding != "buckets" or not num_out:
            return Place(self._left_beyond(num_out), done)
        num_rows = len(self._groups[0].order)
        group = OpenGroup(self._left_beyond(0), num_rows, num_out)
        return Place(self._left_beyond(num_rows), done, [group])

    def _turns_beyond(self, num_rows: int) -> Iterator[Turns]:
        """The turns that are left after so many rows; the last one stays, to tell what is left."""
        for number, turns in enumerate(self._turns, start=1):
            skip = min(num_rows, turns.num_rows)
            num_rows -= skip
            if skip < turns.num_rows or number == len(self._turns):
                yield turns.beyond(skip)

    def _left_beyond(self, num_rows: int) -> list[Span]:
        first = next(self._turns_beyond(num_rows), None)
        return first.left if first else self._left
