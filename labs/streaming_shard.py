"""Parallel classification: processes turn labelled reviews into padded batches.

Each rank reads its own share of the reviews, tokenizes them on the fly with
DistilBERT's WordPiece, cuts them to a length, and pads them to batches with
masks and labels. IMDB is sorted by label, so each rank takes every n-th row:
then all see both labels.

    python labs/streaming_shard.py                      four ranks over IMDB
    python labs/streaming_shard.py --padding buckets    sorted by length
    python labs/streaming_shard.py --strategy contiguous   one label a rank
    python labs/streaming_shard.py --dataset my.jsonl --text-column body
    torchrun --nproc-per-node 4 labs/streaming_shard.py    the same ranks

Stop with Ctrl-C, and go on with another number of ranks:

    python labs/streaming_shard.py --save-state state.json
    python labs/streaming_shard.py --resume state.json --workers 3
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from llmpipe import Share, World, load_tokenizer, open_source, run_ranks
from llmpipe.classification.labels import padding_ratio, truncation_ratio
from llmpipe.classroom.ranks import script
from llmpipe.classroom.ranks.measure import even_batches, go_through, warnings_sent
from llmpipe.classroom.ranks.report import (
    coordination_table,
    label_table,
    no_batches,
    rank_table,
    total_ledger,
    totals,
    totals_card,
)
from llmpipe.launching.distributed import run_under_torchrun
from llmpipe.metrics import card

ALONE_ROWS = 25_000  # what one rank reads by itself first, for the others to be compared with
LABELS = {"imdb": {"0": "negative", "1": "positive"}}  # what the labels of a data set mean
SHOWN_ROWS, SHOWN_WIDTH = 2, 62  # of each rank's share: reviews, and characters of each


def classify_batches(
    world: World, send: Callable, parts: Any, tokenizer: Any, options: Namespace
) -> dict:
    """What each process does, `world` says as which rank; its figures, fit for JSON."""
    # Here, since the parent, which runs no stream, starts a second sooner without torch.
    from llmpipe import ClassificationStream

    if options.strategy:
        share, place = Share(parts, world, options.strategy), {}
        if not options.alone:
            show_reviews(send, Share(parts, world, options.strategy), options)
    else:  # all reviews: the stream itself divides them, and can do so again when it resumes
        share, place = Share(parts, World()), {"rank": world.rank, "world_size": world.world_size}
    stream = ClassificationStream(
        share,
        tokenizer,
        options.max_length,
        text_column=options.text_column,
        label_column=options.label_column,
        num_labels=options.num_labels,
        padding=options.padding,
        batch_size=options.batch_size,
        **place,
    )
    if options.states:
        stream = stream.resume(options.states, **place)
    with warnings_sent(send), even_batches(stream, world, options, padding={}) as batches:
        return go_through(
            world,
            send,
            stream,
            share,
            "samples",
            batches=batches,
            max_batches=options.batches,
            saves=bool(options.save_state),
        )


def show_reviews(send: Callable, share: Share, options: Namespace) -> None:
    """Send the first reviews of a share with their labels, each cut to a line."""
    table = next(share.tables(options.text_column, options.label_column), None)
    for row in table.slice(0, SHOWN_ROWS).to_pylist() if table else ():
        words = " ".join(str(row[options.text_column]).split())
        cut = words if len(words) <= SHOWN_WIDTH else words[: SHOWN_WIDTH - 4] + " ..."
        send({"line": f"label {row[options.label_column]}  {cut}"})


def run(options: Namespace, world: World | None) -> dict | None:
    """Start the ranks and print what they did; the figures, for JSON.

    `world` is the place that `torchrun` gave this process, or None. Of those it started only the
    first prints, and the others return None.
    """
    script.read_states(options, "ClassificationStream")
    source, tokenizer = open_source(options.dataset), load_tokenizer(options.tokenizer)
    parts = source.parts("train", options.num_rows)
    if not (options.strategy or options.save_state or options.resume):
        options.strategy = "rows"
    batch = f"{options.batch_size} reviews of up to {options.max_length} tokens, "
    batch += f"padding: {options.padding}"
    told = parts, tokenizer, options
    configuration = script.introduce("Parallel classification", batch, source, told, world)
    first_rows = source.parts("train", min(ALONE_ROWS, options.num_rows or ALONE_ROWS))
    alone = script.run_alone(classify_batches, world, first_rows, told)

    opened = time.monotonic()
    with script.shown(options, world, "samples") as progress:
        if world is None:
            ranks = {"preload": script.PRELOAD, "on_message": progress}
            results = run_ranks(classify_batches, options.workers, *told, **ranks)
        else:
            results = run_under_torchrun(classify_batches, world, *told, on_message=progress)
    closed = time.monotonic()
    if results is None:
        return None

    found = totals(results, alone, opened, closed, "samples")
    if not found and not options.resume:
        raise ValueError(no_batches(results, source.name, options.uneven))
    ledger = total_ledger(results)
    ratios = {
        "reviews cut": f"{truncation_ratio(ledger):.1%} at {options.max_length} tokens",
        "padding": f"{padding_ratio(ledger):.1%} of the tokens in batches",
    }
    print("\n" + label_table(results, LABELS.get(source.name, {})))
    print("\n" + rank_table(results, "samples"))
    print("\nCoordination\n" + coordination_table(results, opened))
    print("\n" + totals_card(found))
    print("\n" + card("Reviews", ratios))
    script.print_ledger(options, results)
    script.save_states(options, dict(enumerate(results)))
    return {"configuration": configuration, "totals": found, "ranks": results}


def parser() -> ArgumentParser:
    parser = script.parser_of(__doc__, "imdb", "distilbert", 8, "reviews", "rows")
    add = parser.add_argument
    add(
        "--max-length",
        type=script.positive,
        default=256,
        help="tokens that a review is cut to (256)",
    )
    add(
        "--padding",
        choices=("max_length", "longest", "buckets"),
        default="max_length",
        help="to --max-length, to the longest of a batch, or that after sorting reviews by length "
        "(max_length)",
    )
    add("--text-column", default="text", metavar="NAME", help="where the reviews are (text)")
    add("--label-column", default="label", metavar="NAME", help="where their labels are (label)")
    add(
        "--num-labels",
        type=script.positive,
        help="number of classes; a label beyond them is an error",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = script.parsed(parser(), arguments)
    if options.uneven == "pad":
        parser().error("--uneven pad is for language models: a review of padding has no label")
    return script.run_script(run, options)


if __name__ == "__main__":
    sys.exit(main())
