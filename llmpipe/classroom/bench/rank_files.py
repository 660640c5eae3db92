"""What a rank of `llmpipe bench lab3` leaves in a file: all its ids, its counts, and when it was.

All ways write the same, at their end and in the clock, so that what was measured is also compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the classic ranks import this module too, and need not pay for the others
    from llmpipe.classroom.ranks.jobs import Settings
    from llmpipe.sharding.world import World


def write_rank(
    folder: str, rank: int, loader: Iterable[dict], at_end: Callable[[], tuple[int, int, Any, int]]
) -> None:
    """Go through one rank's batches, and write all their ids in a row into a file in `folder`.

    `at_end()` gives rows read, documents kept, ids after the last block, and how many ids at the
    end of that are padding. Batches are only held on to, so that taking one costs nothing.
    """
    first_batch_at, batches = None, []
    for batch in loader:
        first_batch_at = first_batch_at or time.monotonic()
        batches.append(batch["input_ids"])
    num_rows, num_documents, remainder, num_padding = at_end()
    finished = time.monotonic()
    parts = [np.asarray(ids).ravel() for ids in (*batches, remainder)]
    ids = np.concatenate(parts, dtype=np.uint32, casting="unsafe")
    np.savez(
        Path(folder, f"{rank}.npz"),
        ids=ids[: len(ids) - num_padding],
        counts=[num_rows, num_documents, sum(map(len, batches)) - bool(num_padding)],
        # A rank that has no batch was ready for one when it was done.
        moments=[first_batch_at or finished, finished],
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
    """What a rank of `llmpipe_ranks` does: `write_rank` for its own share."""
    from llmpipe import BlockStream, QualityFilter

    stream = BlockStream(
        settings.share(world),
        settings.tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=settings.min_chars),
        batch_size=settings.batch_size,
        remainder="pad",  # else nobody would see the last ids
    )

    def at_end() -> tuple[int, int, Any, int]:
        rows, ids = stream.ledger["filter", "documents"], stream.ledger["chunk", "ids"]
        return rows.num_in, rows.num_out, (), ids.added.get("padding", 0)

    write_rank(folder, world.rank, stream, at_end)
