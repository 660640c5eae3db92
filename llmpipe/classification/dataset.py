"""Labelled text as a PyTorch data set of padded batches."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from llmpipe.arguments import check_choice, check_count
from llmpipe.chunking.dataset import BatchRows, collate
from llmpipe.classification.encoding import Encoder, Rows, batches_in_order, by_length, sizes_of
from llmpipe.classification.labels import (
    HINT,
    known_num_labels,
    labelled_checks,
    warn_of_one_class,
)
from llmpipe.columns import Check, NoColumnError, mask, numbers
from llmpipe.ledger import Ledger
from llmpipe.sharding.world import World
from llmpipe.sources.parts import parts_of
from llmpipe.streaming.partition import permutation

GROUP_BATCHES = 50  # sorted by length among themselves: more leave less padding and less chance


class BucketBatchSampler:
    """Batches of reviews about as long, in a new order every epoch: lists of indices.

    Reviews are shuffled, each 50 batches of them sorted by length, cut into batches, and the
    batches shuffled; by `seed` and `set_epoch` alone. Every index comes exactly once. Without
    `shuffle` all are sorted by length.

    `DataLoader(dataset, batch_sampler=BucketBatchSampler(dataset.lengths, 32))`, where the data set
    pads to the "longest".

    >>> sampler = BucketBatchSampler([5, 1, 4, 2, 3], batch_size=2, shuffle=False)
    >>> list(sampler)
    [[1, 3], [4, 2], [0]]
    """

    drop_last = False

    def __init__(
        self, lengths: Any, batch_size: int, *, shuffle: bool = True, seed: int = 0
    ) -> None:
        check_count("batch_size", batch_size, 1)
        check_count("seed", seed, 0)
        self.lengths = np.asarray(lengths)
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is, from 0."""
        check_count("epoch", epoch, 0)
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        sizes = sizes_of(len(self.lengths), self.batch_size)
        if self.shuffle:
            order = permutation(len(self.lengths), self.seed, self.epoch, 1)
            order = order[by_length(self.lengths[order], GROUP_BATCHES * self.batch_size)]
            batches = permutation(len(sizes), self.seed, self.epoch, 2)
            order, sizes = order[batches_in_order(sizes, batches)], sizes[batches]
        else:
            order = np.argsort(self.lengths, kind="stable")
        first = 0
        for size in sizes.tolist():
            yield order[first : first + size].tolist()
            first += size


class ClassificationDataset:
    """A map-style data set of labelled text, tokenized once and held as ids: two bytes each.

    Item i is a dict of int64 tensors: `input_ids` and `attention_mask` of shape (T,), `labels` of
    (). Ids are those of `transformers` with truncation to `max_length`: `[CLS]` and `[SEP]` stay.
    `padding` is "max_length" (T is `max_length`) or "longest": T is the longest of a batch, and an
    item asked for alone is not padded; a `BucketBatchSampler` then leaves little padding. Padding
    is 0 in the mask, and nothing else is.

    `DataLoader(dataset, batch_size=8)` works as it is, and so does `transformers.Trainer`;
    `collate_fn=ClassificationDataset.collate` gives the same batches faster: `input_ids` and
    `attention_mask` of shape (B, T), `labels` of (B,).

    `documents`, `split` and `num_rows` are as in `ClassificationStream`; all of them is read, so an
    `IterableDataset` must have an end. Of `world_size` ranks each tokenizes its own rows, every
    `world_size`-th, so that sorted labels come to all.
    `num_labels` is the number of classes: by default that of a `ClassLabel`, or else what the
    highest label needs. `ledger` counts reviews by label, those cut, and ids; what is padded
    depends on the batches, see `llmpipe.classification.labels.batch_ledger`.

    Raises KeyError naming the columns there are, TypeError or ValueError for options out of range
    and naming the row whose text or label is none. One class alone is a RuntimeWarning.
    """

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
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_choice("padding", padding, ("max_length", "longest"))
        if num_labels is not None:
            check_count("num_labels", num_labels, 1)
        World(rank, world_size)
        self._encoder, self.padding = Encoder.of(tokenizer, max_length), padding
        num_labels = num_labels or known_num_labels(documents, label_column)
        checks = labelled_checks(text_column, label_column, num_labels)
        encoded, labels, first_row = [self._encoder.no_rows], [np.zeros(0, np.int64)], 0
        for table in _tables(documents, num_rows, split, checks):
            texts, own_labels = (
                check(table[name], name, first_row) for name, check in checks.items()
            )
            labels.append(numbers(own_labels))
            if world_size > 1:
                own = mask((np.arange(table.num_rows) + first_row) % world_size == rank)
                texts, own_labels = texts.filter(own), own_labels.filter(own)
            encoded.append(self._encoder.rows(texts, own_labels))
            first_row += table.num_rows
        whole = np.concatenate(labels)
        warn_of_one_class(whole, "this data set")
        self.num_labels = num_labels or 1 + int(whole.max(initial=-1))
        self._rows = Rows.join(encoded)

    def __len__(self) -> int:
        return len(self._rows.labels)

    @property
    def lengths(self) -> np.ndarray:
        """The ids of each review, special tokens counted, padding not: (N,) int64."""
        return self._rows.lengths

    @property
    def labels(self) -> np.ndarray:
        """The label of each review: (N,) int64."""
        return self._rows.labels

    @property
    def ledger(self) -> Ledger:
        return self._encoder.ledger(self._rows)

    def __getitem__(self, index: int) -> dict:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"review {index} of {len(self)}")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> BatchRows:
        # DataLoader calls this once a batch, where it would call __getitem__ once a review.
        import torch

        rows = self._rows.take(np.asarray(indices, np.int64))
        size, width = len(rows.lengths), self._encoder.max_length
        if self.padding == "longest":
            width = int(rows.lengths.max(initial=0))
        ids, mask = self._encoder.padded(rows, np.full(size, width))
        return BatchRows(
            {
                "input_ids": torch.from_numpy(ids).view(size, width),
                "attention_mask": torch.from_numpy(mask).view(size, width),
                "labels": torch.from_numpy(rows.labels),
            }
        )

    @staticmethod
    def collate(rows: BatchRows | list[dict]) -> dict:
        """A batch: `input_ids` and `attention_mask` of shape (B, T), `labels` of shape (B,)."""
        return collate(rows)


def _tables(
    documents: Any, num_rows: int | None, split: str, checks: Mapping[str, Check]
) -> Iterator[pa.Table]:
    """All rows of texts and labels, in windows. Raises what `ClassificationDataset` does."""
    try:
        parts = parts_of(documents, num_rows, split, checks)
        for part in range(len(parts.weights)):
            yield from parts.windows(part, 0, *checks)
    except NoColumnError as error:
        raise KeyError(f"{error.args[0]}{HINT}") from None
