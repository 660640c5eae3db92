"""Blocks as what a model takes: dicts of int64 tensors, made many blocks at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import get_worker_info

IGNORED = -100  # a label that the losses of torch and `transformers` leave out


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
            row = _to_send(row, shared=batch_size is not None)
        yield dict(zip(columns, row, strict=True))


def _to_send(row: tuple[torch.Tensor, ...], shared: bool) -> tuple[torch.Tensor, ...]:
    """A copy to send from a loader's worker: sending a view would send all that it is a view of.

    A batch is put into shared memory at once. Where there is too little of it that is an error
    here, but in the thread of the queue, which would do it else, it would lose the batch and leave
    the loader waiting.
    """
    copy = torch.stack(row)
    return (copy.share_memory_() if shared else copy).unbind()


class Lasting:
    """An iterator that raises its error again when it is asked again, where a generator ends.

    A loader asks again after an error, and would take the end for that of the data.
    """

    def __init__(self, generator: Iterator[dict]) -> None:
        self._generator, self._error = generator, None

    def __iter__(self) -> Lasting:
        return self

    def __next__(self) -> dict:
        if self._error:
            raise self._error
        try:
            return next(self._generator)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise


def failing(error: Exception) -> Lasting:
    """An iterator that raises `error` when it is asked."""

    def generator() -> Iterator[dict]:
        raise error
        yield

    return Lasting(generator())
