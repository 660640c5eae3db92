"""A stream that goes on in other processes: what Lab 2 sends to them, for `run_ranks`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from llmpipe.sharding import World


def next_batches(
    world: World, send: Callable, stream: Any, path: str | Path, num_batches: int
) -> list[np.ndarray]:
    """The ids of the next batches after the state in the file `path`, as arrays.

    `run_ranks(next_batches, 1, stream, path, 3)[0]` has them made by a new process.
    """
    from llmpipe.state_file import read_state

    stream.load_state_dict(read_state(path))
    return [batch["input_ids"].numpy() for batch in islice(stream, num_batches)]


def rest(world: World, send: Callable, stream: Any, path: str | Path) -> dict:
    """This rank's part of all that the states in the file `path` had left.

    Returns `rows` and `ids` that it gave out, and its `ledger` for `Ledger.from_dicts`; that of
    rank 0 begins with the account of the states.
    """
    from llmpipe.state_file import read_state

    own = stream.resume(read_state(path), rank=world.rank, world_size=world.world_size)
    before = own.total_ledger(read_state(path)) if world.rank == 0 else None
    ids = sum(batch["input_ids"].numel() for batch in own)
    rows = own.ledger["filter", "documents"].num_in
    rows -= before["filter", "documents"].num_in if before else 0
    return {"rows": rows, "ids": ids, "ledger": own.ledger.to_dicts()}
