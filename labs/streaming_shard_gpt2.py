"""Parallel language modelling: several processes turn one corpus into batches of GPT-2 ids.

Each rank reads its own share of the documents, filters them, tokenizes them on the fly and cuts
them into blocks with a rolling buffer. Ranks share nothing, so none waits for another.

    python labs/streaming_shard_gpt2.py                         4 ranks over WikiText-103
    python labs/streaming_shard_gpt2.py --workers 2 --batches 100
    python labs/streaming_shard_gpt2.py --strategy rows         every rank reads everything
    python labs/streaming_shard_gpt2.py --dataset my-texts/ --verbose
    torchrun --nproc-per-node 4 labs/streaming_shard_gpt2.py    the same ranks, started by torchrun
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from llmpipe import Ledger, World, load_tokenizer, open_source, run_ranks
from llmpipe.blocks import check_block_size
from llmpipe.fork_server import start_fork_server
from llmpipe.kit.rank_bars import RankBars
from llmpipe.kit.rank_jobs import PRELOAD, Settings, stream_batches
from llmpipe.kit.rank_report import Progress, no_batches, rank_table, totals, totals_card
from llmpipe.launch import RankError
from llmpipe.metrics import card, usable_cores
from llmpipe.process_group import meeting_point, run_under_torchrun
from llmpipe.shares import STRATEGIES
from llmpipe.uneven import UNEVEN

ALONE_ROWS = 200_000  # what one rank reads by itself first, for the others to be compared with

logger = logging.getLogger("llmpipe.labs")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.verbose:
        show_log()
    try:
        check_block_size(options.block_size)
        report = run(options, World.from_environment())
        if options.json and report:
            write_json(options.json, report)
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


def run(options: argparse.Namespace, world: World | None) -> dict | None:
    """Start the ranks, or be the one that `torchrun` made of this process; print what they did.

    Returns the figures, for JSON; None where another rank prints.
    """
    if world is None:
        start_fork_server(PRELOAD)  # it imports torch while this process opens the data
    source, tokenizer = open_source(options.dataset), load_tokenizer(options.tokenizer)
    parts = source.parts("train", options.num_rows)
    num_ranks = world.world_size if world else options.workers
    enough = len(parts.weights) >= num_ranks
    settings = Settings(
        parts,
        tokenizer,
        options.block_size,
        options.batch_size,
        strategy=options.strategy or ("parts" if enough else "rows"),
        uneven=options.uneven,
        max_batches=options.batches,
    )
    configuration = {
        "data": f"{source}, in {len(parts.weights):,} part{'s' * (len(parts.weights) != 1)}",
        "tokenizer": f"{tokenizer.name}, from {tokenizer.origin}, by {tokenizer.backend_name}",
        "rows": "all" if options.num_rows is None else options.num_rows,
        "ranks": f"{num_ranks} processes on {usable_cores()} cores",
        "strategy": f"{settings.strategy}; ranks of unequal length: {settings.uneven}",
        "batch": f"{settings.batch_size} blocks of {settings.block_size} ids",
    }
    leads = world is None or world.rank == 0
    if leads:
        print(card("Parallel language modelling", configuration), "\n", flush=True)
    alone_rows = min(ALONE_ROWS, options.num_rows or ALONE_ROWS)
    slice_alone = replace(
        settings, parts=source.parts("train", alone_rows), uneven="go on", max_batches=None
    )
    if world:
        alone = stream_batches(World(), lambda message: None, slice_alone) if leads else None
    else:
        alone = run_ranks(stream_batches, 1, slice_alone, preload=PRELOAD)[0]
    opened = time.monotonic()
    results = run_all(settings, num_ranks, world)
    closed = time.monotonic()
    if results is None:
        return None
    if not any(result["ids"] for result in results):
        raise ValueError(no_batches(results, source.name, settings.block_size))
    found = totals(results, alone, opened, closed)
    print("\n" + rank_table(results, opened))
    print("\n" + totals_card(found))
    print("\n" + str(sum((Ledger.from_dicts(r["ledger"]) for r in results), Ledger()).check()))
    return {"configuration": configuration, "totals": found, "ranks": results}


def run_all(settings: Settings, num_ranks: int, world: World | None) -> list[dict] | None:
    """The ranks' results; progress bars on a terminal, lines elsewhere."""
    if world:
        return run_under_torchrun(stream_batches, world, settings, on_message=Progress())
    with ExitStack() as stack:
        if settings.uneven != "go on":
            settings = replace(settings, port=stack.enter_context(meeting_point()))
        bars = stack.enter_context(RankBars(num_ranks)) if sys.stderr.isatty() else None
        progress = Progress(bars)
        try:
            return run_ranks(
                stream_batches, num_ranks, settings, preload=PRELOAD, on_message=progress
            )
        except (KeyboardInterrupt, SystemExit):
            stack.close()  # the bars first
            print("\nstopped; the last that each rank told:\n" + progress.table(), flush=True)
            raise


def write_json(file: Path, report: dict) -> None:
    """Whole or not at all: a run that is stopped leaves no half of a file."""
    unfinished = file.with_name(file.name + ".part")
    unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(file)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, got {text!r}")
        return int(text)

    def file_in_a_folder(text: str) -> Path:
        if not Path(text).absolute().parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no folder for {text}")
        return Path(text)

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
    add(
        "--strategy",
        choices=STRATEGIES,
        help="who reads what: rows or batches in turn, for which each rank reads everything; "
        "parts in turn; or one contiguous run each (parts if there are enough, else rows)",
    )
    add(
        "--uneven",
        choices=UNEVEN,
        default="go on",
        help="ranks of unequal length: go on, all end with the shortest, or pad to the longest "
        "(go on)",
    )
    add("--json", type=file_in_a_folder, metavar="FILE", help="write all figures there, as JSON")
    add("--verbose", action="store_true", help="log what happens, with the rank")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
