"""What every job of the labs' ranks shares: what it is told, how it goes through its batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import Any

from llmpipe.metrics import Meter
from llmpipe.parts import Parts
from llmpipe.sharding import World
from llmpipe.shares import Share

SHOW_EVERY_S = 0.25

logger = logging.getLogger("llmpipe.labs")


@dataclass(frozen=True)
class RankSettings:
    """What every rank is told; `parts` and `tokenizer` were opened once, by the parent.

    `port` is that of a `meeting_point`, where ranks must wait for each other (`uneven`). With
    `shows` a job on labelled text sends the first rows that it reads, for people to see.
    """

    parts: Parts
    tokenizer: Any
    _: KW_ONLY
    strategy: str = "parts"
    uneven: str = "go on"
    max_batches: int | None = None
    shows: bool = False
    port: int | None = None

    def share(self, world: World) -> Share:
        share = Share(self.parts, world, self.strategy)
        place = f"rank {world.rank} of {world.world_size}"
        logger.info("%s reads by %s, %s rows its own", place, share.strategy, share.num_rows)
        return share

    def group(self, world: World) -> AbstractContextManager:
        from llmpipe.process_group import process_group

        return process_group(world, self.port) if self.port else nullcontext()


def go_through(
    batches: Iterable[dict],
    send: Callable[[dict], None],
    max_batches: int | None,
    share: Share,
    unit: str,
    count: Callable[[dict], int],
    warm_up: int = 1,
) -> dict:
    """Take all batches, or `max_batches`; a rank's figures, fit for JSON.

    Sends the first two batches, then four a second, and the last: `shape`, and so far `batches`,
    `ids` and `ids_per_s` (0 while it warms up) if `unit` is "ids", `rows_read` and `rows_to_read`
    (None where nobody knows). `count(batch)` says how many of the unit a batch holds; the rate
    leaves out the first `warm_up` batches. Returned are also `bytes_read`, and the moments
    `started`, `first_batch_at` (None without one) and `finished`.
    """
    started = shown_at = now = time.monotonic()
    meter, first_batch_at = Meter(warm_up=warm_up), None

    def figures() -> dict:
        return {
            "batches": meter.totals.get("batches", 0),
            unit: meter.totals.get(unit, 0),
            f"{unit}_per_s": meter.rate(unit),
            "rows_read": share.rows_read,
            "rows_to_read": share.rows_to_read,
        }

    for number, batch in enumerate(batches, start=1):
        meter.add(**{unit: count(batch), "batches": 1})
        now = time.monotonic()
        first_batch_at = first_batch_at or now
        is_last = number == max_batches
        if number <= 2 or is_last or now - shown_at >= SHOW_EVERY_S:
            shown_at = now
            send({"shape": tuple(batch["input_ids"].shape), **figures()})
        if is_last:
            break
    finished = time.monotonic()  # later than the last batch, if rows were read after it
    if shown_at < now:
        send({"shape": tuple(batch["input_ids"].shape), **figures()})
    moments = {"started": started, "first_batch_at": first_batch_at, "finished": finished}
    return {**figures(), "bytes_read": share.bytes_read, **moments}
