"""Small jobs for ranks, which show what a process is and what threads are good for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmpipe.launching.distributed import EvenBatches, process_group, torch_vote
from llmpipe.sharding.world import World
from llmpipe.streaming.state import read_state


def next_batches(
    world: World, send: Callable, stream: Any, path: str | Path, num_batches: int
) -> list[np.ndarray]:
    """The ids of the next batches after the state in the file `path`, as arrays.

    `run_ranks(next_batches, 1, stream, path, 3)[0]` has them made by a new process.
    """
    stream.load_state_dict(read_state(path))
    return [batch["input_ids"].numpy() for batch in islice(stream, num_batches)]


def rest(world: World, send: Callable, stream: Any, path: str | Path) -> dict:
    """This rank's part of all that the states in the file `path` had left.

    Returns `rows` and `ids` that it gave out, and its `ledger` for `Ledger.from_dicts`; that of
    rank 0 begins with what the states had counted.
    """
    own = stream.resume(read_state(path), rank=world.rank, world_size=world.world_size)
    before = own.total_ledger(read_state(path)) if world.rank == 0 else None
    ids = sum(batch["input_ids"].numel() for batch in own)
    rows = own.ledger["filter", "documents"].num_in
    rows -= before["filter", "documents"].num_in if before else 0
    return {"rows": rows, "ids": ids, "ledger": own.ledger.to_dicts()}


class Seen(NamedTuple):
    """What one rank saw: its number among how many, its process, and a list that it was sent."""

    rank: int
    world_size: int
    pid: int
    numbers: list[int]


def append_rank(world: World, send: Callable, numbers: list[int]) -> Seen:
    """Append the rank to `numbers`: it is this process's own copy that grows."""
    numbers.append(world.rank)
    return Seen(world.rank, world.world_size, os.getpid(), numbers)


class Tokenized(NamedTuple):
    """How many ids a rank made, when it began and when it was done (`time.monotonic`)."""

    num_ids: int
    begin_s: float
    end_s: float


def tokenize(world: World, send: Callable, texts: list[str], num_threads: int) -> Tokenized:
    """Tokenize this rank's share of `texts` by the reference, `tokenizers`, on so many threads."""
    # Both are read when the first of them is tokenized in a process.
    os.environ["RAYON_NUM_THREADS"] = str(num_threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if num_threads > 1 else "false"
    os.environ["LLMPIPE_TOKENIZER_BACKEND"] = "transformers"
    from llmpipe import load_tokenizer

    tokenizer = load_tokenizer("gpt2")
    own = texts[world.rank :: world.world_size]
    begin_s = time.monotonic()
    return Tokenized(len(tokenizer.encode(own).ids), begin_s, time.monotonic())


def give_out(world: World, send: Callable, port: int, lengths: list[int], uneven: str) -> list:
    """Give out 0, 1, ... as many as `lengths` says for this rank, made even with the others'.

    `port` is that of a `meeting_point`; padding is -1.
    """
    with process_group(world, port):
        batches = range(lengths[world.rank])
        return list(EvenBatches(batches, uneven, torch_vote, -1, world.world_size))
