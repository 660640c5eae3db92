"""What the labs let their ranks do. It stands here and not in a notebook or a script, because
every process must be able to import it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from llmpipe.fork_server import STREAMING
from llmpipe.kit.rank_files import RankFile
from llmpipe.ledger import Entry, Ledger
from llmpipe.metrics import Meter
from llmpipe.parts import Parts
from llmpipe.sharding import World
from llmpipe.shares import Share

PRELOAD = STREAMING  # what these jobs import
logger = logging.getLogger("llmpipe.labs")

SHOW_EVERY_S = 0.25
MIN_CHARS = 40


@dataclass(frozen=True)
class Settings:
    """What every rank is told; `parts` and `tokenizer` were opened once, by the parent.

    `port` is that of a `meeting_point`, where ranks must wait for each other (`uneven`).
    """

    parts: Parts
    tokenizer: Any
    block_size: int = 128
    batch_size: int = 4
    strategy: str = "parts"
    uneven: str = "go on"
    max_batches: int | None = None
    max_seconds: float = float("inf")
    port: int | None = None
    min_chars: int = MIN_CHARS

    def share(self, world: World) -> Share:
        return Share(self.parts, world, self.strategy)


def stream_batches(world: World, send: Callable[[dict], None], settings: Settings) -> dict:
    """Go through the batches of one rank's share of a corpus; its figures, fit for JSON.

    Sends the first two batches, then four a second, and the last: `shape`, and so far `batches`,
    `ids`, `ids_per_s` (0 while it warms up), `rows_read` and `rows_to_read` (None if nobody knows).
    """
    from llmpipe import BlockStream, QualityFilter
    from llmpipe.process_group import process_group
    from llmpipe.uneven import Evened, padding_batch, torch_vote

    started = shown_at = time.monotonic()
    tokenizer, shape = settings.tokenizer, (settings.batch_size, settings.block_size)
    share = settings.share(world)
    place = f"rank {world.rank} of {world.world_size}"
    logger.info("%s reads by %s, %s rows its own", place, share.strategy, share.num_rows)
    stream = BlockStream(
        share,
        tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=settings.min_chars),
        batch_size=settings.batch_size,
        remainder="pad" if settings.uneven == "pad" else "drop",
    )
    meter, first_batch_at, now = Meter(warm_up=1), None, started

    def show() -> None:
        send({"shape": tuple(batch["input_ids"].shape), **_figures(meter, share)})

    with process_group(world, settings.port) if settings.port else nullcontext():
        padding = padding_batch(*shape, stream.recipe.pad_id)
        batches = Evened(stream, settings.uneven, torch_vote, padding, world.world_size)
        for number, batch in enumerate(batches, start=1):
            meter.add(ids=batch["input_ids"].numel(), batches=1)
            now = time.monotonic()
            first_batch_at = first_batch_at or now
            if number <= 2 or now - shown_at >= SHOW_EVERY_S:
                shown_at = now
                show()
            if number == settings.max_batches or now - first_batch_at >= settings.max_seconds:
                break
    if shown_at < now:
        show()
    ledger = stream.ledger
    blocks, ids = ledger["chunk", "ids"].num_out, meter.totals.get("ids", 0)
    padding_ids = batches.num_padding * padding["input_ids"].numel()
    dropped, added = {"uneven ranks": blocks + padding_ids - ids}, {"uneven ranks": padding_ids}
    evened = Ledger(Entry("batch", "ids", blocks, ids, added=added, dropped=dropped))
    return {
        "rank": world.rank,
        **_figures(meter, share),
        "bytes_read": share.bytes_read,
        "own_rows": ledger["filter", "documents"].num_in,
        "started": started,
        "first_batch_at": first_batch_at,
        "finished": now,
        "ledger": (ledger if settings.uneven == "go on" else ledger + evened).check().to_dicts(),
    }


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


def _figures(meter: Meter, share: Share) -> dict:
    return {
        "batches": meter.totals.get("batches", 0),
        "ids": meter.totals.get("ids", 0),
        "ids_per_s": meter.rate("ids"),
        "rows_read": share.rows_read,
        "rows_to_read": share.rows_to_read,
    }


def trace(world: World, send: Callable, settings: Settings) -> dict:
    """What one rank did when: `spans`, a list of (what, begin_s, end_s) on `time.monotonic`.

    It does by hand what a stream does: read a table, filter and tokenize it, yield its batches.
    Beside them `ids` in batches, `rows_read` and `bytes_read`.
    """
    from llmpipe import QualityFilter, RollingBuffer
    from llmpipe.items import items

    spans: list[tuple[str, float, float]] = []

    def timed(what: str, steps: Iterator) -> Iterator:
        while True:
            begin = time.monotonic()
            step = next(steps, None)
            if step is None:
                return
            spans.append((what, begin, time.monotonic()))
            yield step

    share, buffer, ids = settings.share(world), RollingBuffer(settings.block_size), 0
    quality = QualityFilter(min_chars=settings.min_chars)
    for table in timed("read", share.tables("text")):
        begin = time.monotonic()
        tokens = settings.tokenizer.encode(quality(table)[0]["text"])
        spans.append(("tokenize", begin, time.monotonic()))
        begin = time.monotonic()
        for batch in items(buffer.push(tokens.ids), settings.batch_size):
            ids += batch["input_ids"].numel()
        spans.append(("yield", begin, time.monotonic()))
    figures = {"ids": ids, "rows_read": share.rows_read, "bytes_read": share.bytes_read}
    return {"rank": world.rank, "spans": spans, **figures}


def stamps(world: World, send: Callable, parts: Parts, strategy: str, column: str = "id") -> dict:
    """Which documents one rank took: the numbers in `column` of its share, and what it read."""
    share = Share(parts, world, strategy)
    ids = [number for table in share.tables(column) for number in table[column].to_pylist()]
    return {"ids": ids, "rows_read": share.rows_read, "bytes_read": share.bytes_read}
