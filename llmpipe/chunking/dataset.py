"""Blocks as a PyTorch data set: what `DataLoader`, `Trainer` and `accelerate` ask for."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

IGNORED = -100  # a label that the losses of torch and `transformers` leave out


class BlockDataset:
    """A map-style data set over blocks of shape (num_blocks, block_size).

    Item i is a dict of `input_ids` and `labels`, int64 tensors of shape (block_size,). The labels
    are the same ids: a causal language model of `transformers` shifts them itself.

    `DataLoader(dataset, batch_size=8)` works as it is, and so does `transformers.Trainer`.
    `DataLoader(dataset, batch_size=8, collate_fn=BlockDataset.collate)` gives the same batches
    faster: one array operation a batch, no Python object a block.
    """

    def __init__(self, blocks: Any) -> None:
        if isinstance(blocks, tuple):
            raise TypeError(
                "pass the blocks alone: `chunk(...).blocks`, not the pair with remainder"
            )
        self.blocks = np.asarray(blocks)
        if self.blocks.ndim != 2 or not np.issubdtype(self.blocks.dtype, np.integer):
            raise TypeError(
                f"blocks must be integers of shape (num_blocks, block_size), "
                f"got shape {self.blocks.shape} of {self.blocks.dtype}"
            )

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> BatchRows:
        # DataLoader calls this once a batch, where it would call __getitem__ once a block.
        import torch

        input_ids = self.blocks[np.asarray(indices, dtype=np.int64)].astype(np.int64)
        # Labels are a copy: whoever masks some with -100 must not change the inputs.
        batch = {"input_ids": input_ids, "labels": input_ids.copy()}
        return BatchRows({name: torch.from_numpy(array) for name, array in batch.items()})

    @staticmethod
    def collate(rows: BatchRows | list[dict]) -> dict:
        """A batch: `input_ids` and `labels`, int64 tensors of shape (B, T)."""
        return collate(rows)


class BatchRows(list):
    """The rows of one batch: a list of dicts for collators that want one, gathered in one array.

    `batch` has tensors whose first dimension is the row. The dicts are made when they are asked
    for; `collate` never does.
    """

    def __init__(self, batch: dict) -> None:
        super().__init__()
        self.batch = batch

    @cached_property
    def _rows(self) -> list[dict]:
        columns = (tensor.unbind() for tensor in self.batch.values())
        return [dict(zip(self.batch, row, strict=True)) for row in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return len(self.batch["input_ids"])

    def __getitem__(self, index: int) -> dict:
        return self._rows[index]

    def __iter__(self) -> Iterator[dict]:
        return iter(self._rows)


def collate(rows: BatchRows | list[dict]) -> dict:
    """The tensors of a batch, stacked where they are not together already."""
    if isinstance(rows, BatchRows):
        return rows.batch
    import torch

    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
