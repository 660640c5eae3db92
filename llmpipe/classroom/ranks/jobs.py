"""What the notebooks let their ranks do, where every process can import it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from llmpipe.classroom.ranks.measure import go_through, warnings_sent
from llmpipe.columns import Parts
from llmpipe.launching.start import STREAMING
from llmpipe.sharding.share import Share
from llmpipe.sharding.world import World

PRELOAD = STREAMING  # for `run_ranks`: what these jobs import, so that no rank waits for it


@dataclass(frozen=True)
class Settings:
    """What ranks of language modelling are told; the parent opened `parts` and `tokenizer`."""

    parts: Parts
    tokenizer: Any
    block_size: int = 128
    batch_size: int = 4
    min_chars: int = 40
    _: KW_ONLY
    strategy: str = "parts"

    def share(self, world: World) -> Share:
        return Share(self.parts, world, self.strategy)


def stream_batches(world: World, send: Callable[[dict], None], settings: Settings) -> dict:
    """Go through the batches of one rank's share of a corpus; the figures of `go_through`."""
    from llmpipe import BlockStream, QualityFilter

    share = settings.share(world)
    stream = BlockStream(
        share,
        settings.tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=settings.min_chars),
        batch_size=settings.batch_size,
    )
    return go_through(world, send, stream, share, "tokens")


def trace(world: World, send: Callable, settings: Settings) -> dict:
    """What one rank did when: `spans`, a list of (what, begin_s, end_s) on `time.monotonic`.

    It does by hand what a stream does: read a table, filter and tokenize it, yield its batches.
    Beside them `tokens` in batches, `rows_read` and `bytes_read`.
    """
    from llmpipe import QualityFilter, RollingBuffer
    from llmpipe.streaming.block_stream import make_batches

    share, buffer, num_tokens = settings.share(world), RollingBuffer(settings.block_size), 0
    quality = QualityFilter(min_chars=settings.min_chars)
    spans, begin = [], time.monotonic()

    def done(what: str) -> None:
        nonlocal begin
        spans.append((what, begin, end := time.monotonic()))
        begin = end

    for table in share.tables("text"):
        done("read")
        tokens = settings.tokenizer.encode(quality(table)[0]["text"])
        done("tokenize")
        for batch in make_batches(buffer.push(tokens.ids), settings.batch_size):
            num_tokens += batch["input_ids"].numel()
        done("yield")
    read = {"rows_read": share.rows_read, "bytes_read": share.bytes_read}
    return {"rank": world.rank, "spans": spans, "tokens": num_tokens, **read}


def stamps(world: World, send: Callable, parts: Parts, strategy: str, column: str = "id") -> dict:
    """Which documents one rank took: the numbers in `column` of its share, and what it read."""
    share = Share(parts, world, strategy)
    ids = [number for table in share.tables(column) for number in table[column].to_pylist()]
    return {"ids": ids, "rows_read": share.rows_read, "bytes_read": share.bytes_read}


@dataclass(frozen=True)
class ReviewSettings:
    """What ranks of classification are told; the parent opened `parts` and `tokenizer`."""

    parts: Parts
    tokenizer: Any
    max_length: int = 256
    batch_size: int = 8
    padding: str = "max_length"
    _: KW_ONLY
    strategy: str = "rows"


def classify_batches(world: World, send: Callable[[dict], None], settings: ReviewSettings) -> dict:
    """Go through the batches of one rank's share of the reviews; the figures of `go_through`."""
    from llmpipe import ClassificationStream

    share = Share(settings.parts, world, settings.strategy)
    stream = ClassificationStream(
        share,
        settings.tokenizer,
        settings.max_length,
        padding=settings.padding,
        batch_size=settings.batch_size,
    )
    with warnings_sent(send):
        return go_through(world, send, stream, share, "samples")
