"""What the labs let their ranks do with labelled text, where every process can import it."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import Any

from llmpipe.launching.start import STREAMING
from llmpipe.ledger import Entry, Ledger
from llmpipe.metrics import Meter
from llmpipe.sharding.share import Share
from llmpipe.sharding.world import World
from llmpipe.sources.parts import Parts

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
    uneven: str = "continue"
    max_batches: int | None = None
    shows: bool = False
    port: int | None = None

    def share(self, world: World) -> Share:
        share = Share(self.parts, world, self.strategy)
        place = f"rank {world.rank} of {world.world_size}"
        logger.info("%s reads by %s, %s rows its own", place, share.strategy, share.num_rows)
        return share

    def group(self, world: World) -> AbstractContextManager:
        from llmpipe.launching.distributed import process_group

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
    from llmpipe.launching.distributed import EvenBatches, padding_batch, torch_vote

    share = settings.share(world)
    stream = BlockStream(
        share,
        settings.tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=settings.min_chars),
        batch_size=settings.batch_size,
        remainder="pad" if settings.uneven == "pad" else "drop",
    )
    padding = padding_batch(settings.batch_size, settings.block_size, settings.tokenizer.pad_id)
    with settings.group(world):
        batches = EvenBatches(stream, settings.uneven, torch_vote, padding, world.world_size)
        figures = go_through(batches, send, settings.max_batches, share, "ids", _num_ids)
    ledger = stream.ledger
    if settings.uneven != "continue":
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
    from llmpipe.streaming.block_stream import make_batches

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
        for batch in make_batches(buffer.push(tokens.ids), settings.batch_size):
            ids += batch["input_ids"].numel()
        spans.append(("yield", begin, time.monotonic()))
    figures = {"ids": ids, "rows_read": share.rows_read, "bytes_read": share.bytes_read}
    return {"rank": world.rank, "spans": spans, **figures}


def stamps(world: World, send: Callable, parts: Parts, strategy: str, column: str = "id") -> dict:
    """Which documents one rank took: the numbers in `column` of its share, and what it read."""
    share = Share(parts, world, strategy)
    ids = [number for table in share.tables(column) for number in table[column].to_pylist()]
    return {"ids": ids, "rows_read": share.rows_read, "bytes_read": share.bytes_read}


SAMPLES = 2  # reviews that each rank shows
LINE_WIDTH = 76


@dataclass(frozen=True)
class ReviewSettings(RankSettings):
    """What the ranks of classification are told."""

    max_length: int = 256
    batch_size: int = 8
    padding: str = "max_length"
    text_column: str = "text"
    label_column: str = "label"
    num_labels: int | None = None


def classify_batches(world: World, send: Callable[[dict], None], settings: ReviewSettings) -> dict:
    """Go through the batches of one rank's share of labelled text; its figures, fit for JSON.

    They are those of `go_through` in samples, `rank`, `own_rows`, `labels` (how many of each),
    `truncation_ratio`, `padding_ratio`, and `ledger` for `Ledger.from_dicts`.
    """
    from llmpipe import ClassificationStream
    from llmpipe.classification.labels import label_counts, padding_ratio, truncation_ratio
    from llmpipe.launching.distributed import EvenBatches, torch_vote

    share, columns = settings.share(world), (settings.text_column, settings.label_column)
    if settings.shows:
        _show(send, settings.share(world), columns)
    stream = ClassificationStream(
        share,
        settings.tokenizer,
        settings.max_length,
        text_column=columns[0],
        label_column=columns[1],
        num_labels=settings.num_labels,
        padding=settings.padding,
        batch_size=settings.batch_size,
    )
    with settings.group(world), _warnings_sent(send):
        batches = EvenBatches(stream, settings.uneven, torch_vote, {}, world.world_size)
        # A share is a few thousand reviews, and the first batch comes when a good part of them is
        # tokenized: leaving it out would flatter the rate.
        figures = go_through(
            batches,
            send,
            settings.max_batches,
            share,
            "samples",
            lambda batch: len(batch["labels"]),
            warm_up=0,
        )
    ledger, labels = stream.ledger, Counter(label_counts(stream.ledger))
    if settings.uneven != "continue":
        withheld = batches.withheld["labels"].tolist() if batches.withheld else []
        rows = ledger["read", "documents"].num_out
        dropped = {"uneven ranks": len(withheld)}
        ledger = ledger + Ledger(
            Entry("batch", "documents", rows, rows - len(withheld), dropped=dropped)
        )
        labels.subtract(withheld)
    return {
        "rank": world.rank,
        **figures,
        "own_rows": ledger["read", "documents"].num_out,
        "labels": {str(label): count for label, count in labels.items()},
        "truncation_ratio": truncation_ratio(ledger),
        "padding_ratio": padding_ratio(ledger),
        "ledger": ledger.check().to_dicts(),
    }


@contextmanager
def _warnings_sent(send: Callable[[dict], None]) -> Iterator[None]:
    """Within, a warning is a line that the parent prints: each once, and untorn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        send({"line": f"warning: {text}"})


def _show(send: Callable[[dict], None], share: Share, columns: tuple[str, str]) -> None:
    """Send the first reviews of a share with their labels, cut to a line."""
    text, label = columns
    table = next(share.tables(text, label), None)
    for row in table.slice(0, SAMPLES).to_pylist() if table else ():
        words = " ".join(str(row[text]).split())
        cut = words if len(words) <= LINE_WIDTH else words[: LINE_WIDTH - 4] + " ..."
        send({"line": f"label {row[label]}  {cut}"})
