"""What the tests of streams share: documents whose ids tell where they are from, and workers
without processes."""

import json
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import _utils

from llmpipe import BlockStream
from llmpipe.columns import text_column
from llmpipe.tokenization.tokenizer import Tokens

NUM_IDS = 1_000_000
# A loader that an error's traceback kept waits this long for each worker once it is collected, in
# vain: 5 s by default.
_utils.MP_STATUS_CHECK_INTERVAL = 0.2


class NumberTokenizer:
    """Text of whole numbers to those numbers: an id that occurs twice was read twice."""

    name, digest, split_special_tokens = "numbers", "0" * 64, True
    vocab_size, pad_id = NUM_IDS, NUM_IDS - 1

    def encode(self, texts):
        rows = [list(map(int, text.split())) for text in text_column(texts).to_pylist()]
        ids = np.array([number for row in rows for number in row], np.uint32)
        return Tokens(ids, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def numbered(lengths):
    """Documents of these lengths, their ids counted through from 0."""
    ends = np.cumsum(lengths)
    return [
        " ".join(map(str, range(end - length, end)))
        for end, length in zip(ends, lengths, strict=True)
    ]


@contextmanager
def worker(index, number):
    """Within, this process is worker `index` of `number`, as torch's loader tells its own."""
    info = _utils.worker.WorkerInfo(id=index, num_workers=number, seed=index, dataset=None)
    _utils.worker._worker_info = info
    try:
        yield
    finally:
        _utils.worker._worker_info = None


def consumers(stream_of, world_size, num_workers):
    """Every consumer's stream and the context to run it in; `stream_of(rank, world_size)`."""
    for rank in range(world_size):
        for index in range(max(1, num_workers)):
            stream = stream_of(rank, world_size)
            yield stream, (lambda i=index: worker(i, num_workers)) if num_workers else no_worker


@contextmanager
def no_worker():
    yield


def real_ids(item):
    """The ids of an item that are not padding, in order; works for blocks and for batches."""
    ids = item["input_ids"].reshape(-1)
    return (
        ids[item["attention_mask"].reshape(-1) == 1].tolist()
        if "attention_mask" in item
        else (ids.tolist())
    )


def run(stream, num_items=None):
    """The first `num_items` items of a pass, as (ids, state) with states through JSON."""
    seen = []
    for number, item in enumerate(stream, start=1):
        seen.append((real_ids(item), json.loads(json.dumps(stream.state_dict()))))
        if number == num_items:
            break
    return seen


def blocks_of(stream):
    return [item["input_ids"].tolist() for item in stream]


def number_stream(dataset, block_size=4, **options):
    return BlockStream(dataset, NumberTokenizer(), block_size, **options)


def collated(loader):
    """All blocks of a loader, shape (num_blocks, block_size)."""
    batches = [batch["input_ids"] for batch in loader]
    return torch.cat([b if b.ndim == 2 else b[None] for b in batches]).numpy() if batches else None
