"""A rank goes through its batches, tells its parent how far it is, and sums up what it did."""

from __future__ import annotations

import logging
import time
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from llmpipe.launching.distributed import EvenBatches, process_group, torch_vote
from llmpipe.ledger import Entry, Ledger
from llmpipe.metrics import Meter
from llmpipe.sharding.share import Share
from llmpipe.sharding.world import World

TELL_EVERY_S = 0.25

logger = logging.getLogger("llmpipe.labs")


def _num_tokens(batch: dict) -> int:
    """Those that are no padding."""
    mask = batch.get("attention_mask")
    return batch["input_ids"].numel() if mask is None else int(mask.sum())


# How many a batch holds; the entries of a ledger where documents come in and where batches go out;
# and how many batches the rate leaves out. A share of reviews is a few thousand, and its first
# batch comes when a good part of them is tokenized: leaving it out would flatter the rate.
UNITS = {
    "tokens": (_num_tokens, ("filter", "documents"), ("chunk", "ids"), 1),
    "samples": (lambda batch: len(batch["labels"]), *[("read", "documents")] * 2, 0),
}


def go_through(
    world: World,
    send: Callable[[dict], None],
    stream: Any,
    share: Share,
    unit: str,
    *,
    batches: Any = None,
    max_batches: int | None = None,
    saves: bool = False,
) -> dict:
    """Take all batches of a stream, or `max_batches`; a rank's figures, fit for JSON.

    `share` is what the stream reads; `batches` are its own, made as many as those of other ranks.
    It sends the first two, then four a second, and the last: `shape`, and so far `batches`,
    `tokens` and `tokens_per_s` (0 while it warms up) if `unit` is "tokens", `rows_read` and
    `rows_to_read` (None where nobody knows). With `saves` the stream's `state` and `ledger` go with
    them, which are of the same moment, and there is a message before the first batch.

    Returned are the last of these, `rank`, `bytes_read`, `own_rows` and how many of them were
    `kept`, of samples the `labels`, `ledger` for `Ledger.from_dicts`, and the moments `started`,
    `first_batch_at` (None without one) and `finished`.
    """
    count, first, last, warm_up = UNITS[unit]
    batches = stream if batches is None else batches
    logger.info("rank %s of %s reads %s", world.rank, world.world_size, share.identity)
    started = told_at = now = time.monotonic()
    meter, shape, first_batch_at = Meter(warm_up=warm_up), None, None
    steps = iter(batches)  # a stream that resumes is from here on where its states stood
    before = stream.ledger[first]

    def so_far() -> dict:
        here = {"state": stream.state_dict(), "ledger": stream.ledger.to_dicts()} if saves else {}
        return here | {
            "batches": meter.totals.get("batches", 0),
            unit: meter.totals.get(unit, 0),
            f"{unit}_per_s": meter.rate(unit),
            "rows_read": share.rows_read,
            "rows_to_read": share.rows_to_read if share.world == world else None,
        }

    if saves:
        send({"shape": None, **so_far()})
    for number, batch in enumerate(steps, start=1):
        # Here a model would be trained on the batch.
        meter.add(**{unit: count(batch), "batches": 1})
        now, shape = time.monotonic(), tuple(batch["input_ids"].shape)
        first_batch_at = first_batch_at or now
        is_last = number == max_batches
        if number <= 2 or is_last or now - told_at >= TELL_EVERY_S:
            told_at = now
            send({"shape": shape, **so_far()})
        if is_last:
            break
    finished = time.monotonic()  # later than the last batch, if rows were read after it
    if told_at < now:
        send({"shape": shape, **so_far()})
    ledger, rows = stream.ledger, stream.ledger[first]
    if batches is not stream:
        ledger = (ledger + Ledger(_last_stage(ledger[last], batches, count))).check()
    # Where they go on from states, the first rank's ledger begins with what all had counted.
    own_before, own = (entry.num_in + sum(entry.added.values()) for entry in (before, rows))
    withheld = getattr(batches, "withheld", None)
    labels = {"labels": _labels(before, rows, withheld)} if unit == "samples" else {}
    return {
        "rank": world.rank,
        **so_far(),
        "bytes_read": share.bytes_read,
        "own_rows": own - own_before,
        "kept": rows.num_out - before.num_out,
        **labels,
        "ledger": ledger.to_dicts(),
        "started": started,
        "first_batch_at": first_batch_at,
        "finished": finished,
    }


def _labels(before: Entry, now: Entry, withheld: dict | None) -> dict[str, int]:
    counts = Counter(now.added)
    counts.subtract(before.added)
    counts.subtract(f"label {int(label)}" for label in (withheld or {"labels": ()})["labels"])
    return {name.split()[1]: count for name, count in counts.items()}


def _last_stage(last: Entry, batches: Any, count: Callable[[dict], int]) -> Entry:
    """The stage after the last: batches added, or one withheld, so that ranks end together."""
    padding = batches.num_padding and batches.padding["input_ids"].numel()
    added = {"uneven ranks": batches.num_padding * padding}
    dropped = {"uneven ranks": count(batches.withheld) if batches.withheld else 0}
    num_out = last.num_out + sum(added.values()) - sum(dropped.values())
    return Entry("batch", last.unit, last.num_out, num_out, added, dropped)


@contextmanager
def even_batches(stream: Any, world: World, options: Namespace, padding: dict) -> Iterator[Any]:
    """The batches of a rank, as many as those of the others in the way of `--uneven`.

    `options.port` is that of a `meeting_point`, None where `torchrun` made the ranks a group.
    """
    if options.uneven == "continue":
        yield stream  # such ranks need no process group
        return
    with process_group(world, options.port) if options.port else nullcontext():
        yield EvenBatches(stream, options.uneven, torch_vote, padding, world.world_size)


@contextmanager
def warnings_sent(send: Callable[[dict], None]) -> Iterator[None]:
    """Within, a warning is a line that the parent prints: each once, and untorn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        send({"line": f"warning: {text}"})
