"""What the labs let their ranks do. It stands here and not in a notebook or a script, because
every process must be able to import it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmpipe.fork_server import STREAMING
from llmpipe.kit.rank_files import RankFile
from llmpipe.kit.rank_work import RankSettings, go_through
from llmpipe.ledger import Entry, Ledger
from llmpipe.parts import Parts
from llmpipe.sharding import World
from llmpipe.shares import Share

PRELOAD = STREAMING  # for `run_ranks`: what these jobs import, so that no rank waits for it


@dataclass(frozen=True)
class Settings(RankSettings):
    """What the ranks of language modelling are told."""

    block_size: int = 128
    batch_size: int = 4
    min_chars: int = 40


def stream_batches(world: World, send: Callable[[dict], None], settings: Settings) -> dict:
    """Go through the batches of one rank's share of a corpus; its figures, fit for JSON.

    They are those of `go_through`, `rank`, `own_rows`, and `ledger` for `Ledger.from_dicts`.
    """
    from llmpipe import BlockStream, QualityFilter
    from llmpipe.uneven import Evened, padding_batch, torch_vote

    share = settings.share(world)
    stream = BlockStream(
        share,
        settings.tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=settings.min_chars),
        batch_size=settings.batch_size,
        remainder="pad" if settings.uneven == "pad" else "drop",
    )
    padding = padding_batch(settings.batch_size, settings.block_size, stream.recipe.pad_id)
    with settings.group(world):
        batches = Evened(stream, settings.uneven, torch_vote, padding, world.world_size)
        figures = go_through(batches, send, settings.max_batches, share, "ids", _num_ids)
    ledger = stream.ledger
    if settings.uneven != "go on":
        blocks, added = ledger["chunk", "ids"].num_out, batches.num_padding * _size(padding)
        dropped = _size(batches.withheld) if batches.withheld else 0
        ledger = ledger + Ledger(
            Entry(
                "batch",
                "ids",
                blocks,
                blocks + added - dropped,
                added={"uneven ranks": added},
                dropped={"uneven ranks": dropped},
            )
        )
    return {
        "rank": world.rank,
        **figures,
        "own_rows": ledger["filter", "documents"].num_in,
        "ledger": ledger.check().to_dicts(),
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


def _size(batch: dict) -> int:
    return batch["input_ids"].numel()


def _num_ids(batch: dict) -> int:
    """The ids of a batch that are no padding."""
    mask = batch.get("attention_mask")
    return _size(batch) if mask is None else int(mask.sum())


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
