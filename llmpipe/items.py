"""Blocks as what a model takes: dicts of int64 tensors, many blocks at a time, one by one or in
batches, each with its place in the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.data import get_worker_info

from llmpipe.account import Account
from llmpipe.lanes import Lanes, Piece
from llmpipe.reading import Pass
from llmpipe.recipe import Recipe

IGNORED = -100  # a label that the losses of torch and `transformers` leave out


class BlockPass(Pass):
    """A pass that gives out items: dicts of tensors, of one block each or of `batch_size`."""

    def __init__(
        self,
        recipe: Recipe,
        lanes: Lanes,
        pieces: list[Piece],
        done: Account,
        batch_size: int | None,
        remainder: str,
    ) -> None:
        super().__init__(recipe, lanes, pieces, done)
        self.batch_size, self.remainder = batch_size, remainder

    def given_out(self) -> Iterator[tuple[dict, Callable[[], tuple[list[Piece], Account]]]]:
        """The items, each with a function that tells what is left and done after it.

        Afterwards `done` counts all, also what became of the `remainder`: "drop" or "pad".
        """
        size, masked = self.batch_size or 1, self.remainder == "pad"
        waiting = np.zeros((0, self.recipe.block_size), np.uint32)
        for part in self.slices():
            blocks = np.concatenate((waiting, part.blocks)) if len(waiting) else part.blocks
            ready = len(blocks) - len(blocks) % size
            for number, item in enumerate(items(blocks[:ready], self.batch_size, masked), start=1):
                yield item, partial(self.place, part, number * size - len(waiting))
            waiting = blocks[ready:].copy()  # and not a view that keeps a whole slice
        last, num_padding = self.finish(self.remainder)
        for item in items(np.concatenate((waiting, last)), self.batch_size, masked, num_padding):
            yield item, lambda: ([], self.done)


def items(
    blocks: np.ndarray, batch_size: int | None, masked: bool = False, num_padding: int = 0
) -> Iterator[dict]:
    """Items out of blocks of shape (n, T): one a block, or batches (B, T), the last maybe smaller.

    Each holds `input_ids`, `labels`, which are the same ids, and if `masked` an `attention_mask`.
    The last `num_padding` ids of the last block are padding: 0 in the mask, -100 in the labels.
    They go by place and not by value, since an id that pads may be one of the text as well.

    >>> item, = items(np.array([[5, 6, 6]]), batch_size=None, masked=True, num_padding=1)
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
    columns = {name: torch.from_numpy(array) for name, array in arrays.items()}
    parts = (c.split(batch_size) if batch_size else c.unbind() for c in columns.values())
    for row in zip(*parts, strict=True):
        if get_worker_info():
            row = to_send(row, shared=batch_size is not None)
        yield dict(zip(columns, row, strict=True))


def to_send(row: Sequence[torch.Tensor], shared: bool) -> list[torch.Tensor]:
    """A copy to send from a loader's worker: sending a view would send all that it is a view of.

    A batch is put into shared memory at once. Where there is too little of it that is an error
    here, but in the thread of the queue, which would do it else, it would lose the batch and leave
    the loader waiting.
    """
    copy = torch.cat([tensor.reshape(-1) for tensor in row])
    parts = (copy.share_memory_() if shared else copy).split([tensor.numel() for tensor in row])
    return [part.view(tensor.shape) for part, tensor in zip(parts, row, strict=True)]
