"""What a rank of `llmpipe bench lab3` leaves in a file: all its ids, its counts, and when it was.

All ways write the same, at their end and in the clock, so that what was measured is also compared:
the classic one with a `RankFile` of its own, those of `llmpipe` by `keep_batches`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the classic ranks import this module too, and need not pay for the others
    from llmpipe.classroom.ranks.jobs import Settings
    from llmpipe.sharding.world import World


class RankFile:
    """Takes one rank's batches, and writes all their ids in a row into a file in `folder`.

    Batches are only held on to, so that taking one costs nothing.
    """

    def __init__(self, folder: str, rank: int) -> None:
        self.file = Path(folder, f"{rank}.npz")
        self.batches: list[Any] = []
        self.first_batch_at: float | None = None

    def add(self, input_ids: Any) -> None:
        self.first_batch_at = self.first_batch_at or time.monotonic()
        self.batches.append(input_ids)

    def write(self, rows: int, documents: int, remainder: Any = (), num_padding: int = 0) -> None:
        """`remainder` are ids after the last block; `num_padding` at its end are no ids."""
        finished = time.monotonic()
        num_blocks = sum(map(len, self.batches)) - bool(num_padding)
        parts = [np.asarray(ids).ravel() for ids in (*self.batches, remainder)]
        ids = np.concatenate(parts, dtype=np.uint32, casting="unsafe")
        np.savez(
            self.file,
            ids=ids[: len(ids) - num_padding],
            counts=[rows, documents, num_blocks],
            # A rank that has no batch was ready for one when it was done.
            moments=[self.first_batch_at or finished, finished],
        )


def read_ranks(folder: str, world_size: int) -> list[dict]:
    """By rank `ids` (N,), `counts` (rows, documents kept, whole blocks), and `moments`: those of
    its first batch and of its end, on the clock of `time.monotonic`."""
    found = []
    for rank in range(world_size):
        with np.load(Path(folder, f"{rank}.npz")) as arrays:
            found.append(dict(arrays))
    return found


def keep_batches(world: World, send: Callable, settings: Settings, folder: str) -> None:
    """Go through the batches of one rank's share, and leave all its ids in a file in `folder`."""
    from llmpipe import BlockStream, QualityFilter

    kept = RankFile(folder, world.rank)
    stream = BlockStream(
        settings.share(world),
        settings.tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=settings.min_chars),
        batch_size=settings.batch_size,
        remainder="pad",  # else nobody would see the last ids
    )
    for batch in stream:
        kept.add(batch["input_ids"])
    rows, ids = stream.ledger["filter", "documents"], stream.ledger["chunk", "ids"]
    kept.write(rows.num_in, rows.num_out, num_padding=ids.added.get("padding", 0))
