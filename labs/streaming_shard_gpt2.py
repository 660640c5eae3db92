"""Parallel language modelling: several processes turn one corpus into batches of GPT-2 ids.

Each rank reads its own share of the documents, filters them, tokenizes them on the fly and cuts
them into blocks with a rolling buffer. Ranks share nothing, so none waits for another.

    python labs/streaming_shard_gpt2.py                         4 ranks over WikiText-103
    python labs/streaming_shard_gpt2.py --workers 2 --batches 100
    python labs/streaming_shard_gpt2.py --dataset my-texts/ --verbose
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from llmpipe import (
    Ledger,
    QualityFilter,
    RollingBuffer,
    World,
    load_tokenizer,
    open_source,
    run_ranks,
)
from llmpipe.blocks import check_block_size
from llmpipe.kit.rank_report import Progress, no_batches, rank_table, totals
from llmpipe.launch import RankError
from llmpipe.ledger import Entry
from llmpipe.metrics import Meter, card, usable_cores
from llmpipe.sharding import shard_stream

FIRST_BATCHES = 2  # a rank shows these, and then one batch every half second
SHOW_EVERY_S = 0.5
ROWS_PER_CALL = 4096  # read, filtered and tokenized together
ALONE_S = 1.0  # how long one rank works alone, for the others to be compared with
PRELOAD = ("torch", "datasets", "gigatoken", "awkward", "nanotoken", "llmpipe.sample.dataset")

logger = logging.getLogger("llmpipe.labs")


@dataclass(frozen=True)
class Settings:
    """What every rank is told; `source` and `tokenizer` were opened once, by the parent."""

    source: object
    tokenizer: object
    block_size: int
    batch_size: int
    num_rows: int | None
    max_batches: int | None
    max_seconds: float = float("inf")


class Share:
    """One rank's share of the corpus: iterate over it for batches, ask `ledger` for the account."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world, self.settings = world, settings
        self.buffer = RollingBuffer(settings.block_size)
        self.documents, self.num_ids_out, self.finished = Ledger(), 0, False

    def __iter__(self) -> Iterator:
        """Batches: int64 tensors of shape (batch_size, block_size), the last maybe smaller."""
        import torch

        batch_size = self.settings.batch_size
        waiting = np.zeros((0, self.settings.block_size), np.uint32)
        for ids in self.read():
            waiting = np.concatenate((waiting, self.buffer.push(ids)))
            num_ready = len(waiting) // batch_size * batch_size
            ready = torch.from_numpy(waiting[:num_ready].astype(np.int64))
            waiting = waiting[num_ready:]
            for batch in ready.split(batch_size) if num_ready else ():
                self.num_ids_out += batch.numel()
                yield batch
        if len(waiting):
            self.num_ids_out += waiting.size
            yield torch.from_numpy(waiting.astype(np.int64))
        self.finished = True

    def read(self) -> Iterator[np.ndarray]:
        """The ids of this rank's documents, thousands of documents at a time."""
        settings = self.settings
        stream = settings.source.load("train", streaming=True, num_rows=settings.num_rows)
        tables = shard_stream(stream, self.world, ROWS_PER_CALL)
        try:
            for kept, ledger in QualityFilter(min_chars=40).stream(tables):
                tokens = settings.tokenizer.encode(kept["text"])
                self.documents = self.documents + ledger + tokens.ledger
                yield tokens.ids
        except (TypeError, ValueError) as error:
            # Rows are counted from the first that this rank reads.
            whose = f"the share of rank {self.world.rank} of {self.world.world_size}"
            raise type(error)(f"{settings.source.name}, in {whose}: {error}") from error

    @property
    def ledger(self) -> Ledger:
        blocks = self.buffer.ledger
        num_in = blocks["chunk", "ids"].num_out
        unread = {} if self.finished else {"stopped early": num_in - self.num_ids_out}
        batches = Ledger(Entry("batch", "ids", num_in, self.num_ids_out, dropped=unread))
        return (self.documents + blocks + batches).check()


def run_rank(world: World, send: Callable[[dict], None], settings: Settings) -> dict:
    """The work of one rank; sends lines of progress and returns its figures."""
    started, shown_at = time.monotonic(), 0.0
    share, meter = Share(world, settings), Meter(warm_up=1)
    first_batch_at = None
    for number, batch in enumerate(share, start=1):
        meter.add(tokens=batch.numel(), batches=1)
        now = time.monotonic()
        first_batch_at = first_batch_at or now
        if number <= FIRST_BATCHES or now - shown_at >= SHOW_EVERY_S:
            shown_at = now
            send({"shape": tuple(batch.shape), **figures(meter)})
        if number == settings.max_batches or now - first_batch_at >= settings.max_seconds:
            break
    return {
        "rank": world.rank,
        **figures(meter),
        "started": started,
        "first_batch_at": first_batch_at,
        "steady_s": now - first_batch_at if first_batch_at else 0.0,
        "finished": time.monotonic(),
        "ledger": share.ledger.to_dicts(),
    }


def figures(meter: Meter) -> dict:
    return {
        "batches": meter.totals.get("batches", 0),
        "ids": meter.totals.get("tokens", 0),
        "ids_per_s": meter.rate("tokens"),
    }


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.verbose:
        show_log()
    try:
        check_block_size(options.block_size)
        settings = Settings(
            open_source(options.dataset),
            load_tokenizer(options.tokenizer),
            options.block_size,
            options.batch_size,
            options.num_rows,
            options.batches,
        )
        run(settings, options.workers)
    except (OSError, ValueError, TypeError, KeyError, RankError) as error:
        if options.verbose:
            logger.exception("failed")
        # Of a rank's traceback the last line says what was wrong; --verbose shows it all.
        print(f"error: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def show_log() -> None:
    """What the package logs, ranks included, on the standard error."""
    handler = logging.StreamHandler()
    line = "%(asctime)s %(levelname)s rank %(rank)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(line, defaults={"rank": "-"}))
    logging.getLogger("llmpipe").addHandler(handler)
    logging.getLogger("llmpipe").setLevel(logging.INFO)


def run(settings: Settings, num_ranks: int) -> None:
    source, tokenizer = settings.source, settings.tokenizer
    configuration = {
        "data": f"{source.name}, from {source.origin}",
        "tokenizer": f"{tokenizer.name}, from {tokenizer.origin}, by {tokenizer.backend_name}",
        "rows": "all" if settings.num_rows is None else settings.num_rows,
        "ranks": f"{num_ranks} processes on {usable_cores()} cores",
        "batch": f"{settings.batch_size} blocks of {settings.block_size} ids",
    }
    print(card("Parallel language modelling", configuration), "\n", flush=True)
    alone_settings = replace(settings, max_seconds=ALONE_S, max_batches=None)
    alone = run_ranks(run_rank, 1, alone_settings, preload=PRELOAD)[0]
    opened = time.monotonic()
    progress = Progress()
    try:
        results = run_ranks(run_rank, num_ranks, settings, preload=PRELOAD, on_message=progress)
    except (KeyboardInterrupt, SystemExit):
        print("\nstopped; the last that each rank told:\n" + progress.table(), flush=True)
        raise
    closed = time.monotonic()
    if not any(result["ids"] for result in results):
        raise ValueError(no_batches(results, source.name, settings.block_size))
    print("\n" + rank_table(results, opened))
    print("\n" + totals(results, alone, opened, closed))
    print("\n" + str(sum((Ledger.from_dicts(r["ledger"]) for r in results), Ledger()).check()))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, got {text!r}")
        return int(text)

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workers", type=positive, default=4, help="number of processes, one a rank (4)")
    add("--dataset", default="wikitext-103", help="short name, owner/name, file or folder")
    add("--tokenizer", default="gpt2", help="short name, owner/name or folder (gpt2)")
    add("--block-size", type=positive, default=128, help="ids in a block (128)")
    add("--batch-size", type=positive, default=4, help="blocks in a batch (4)")
    add("--batches", type=positive, help="stop each rank after so many batches (all)")
    add("--num-rows", type=positive, help="read only the first rows (all)")
    add("--verbose", action="store_true", help="log what happens, with the rank")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
