"""Parallel classification: several processes turn labelled reviews into padded batches.

Each rank reads its own share of the reviews, tokenizes them on the fly with DistilBERT's WordPiece,
cuts them to a length, and pads them to batches with masks and labels. IMDB is sorted by label, so
rows are dealt one by one: every rank sees both labels.

    python labs/streaming_shard.py                          4 ranks over IMDB
    python labs/streaming_shard.py --padding buckets        sort reviews by length, pad less
    python labs/streaming_shard.py --strategy contiguous    see ranks that know one label only
    python labs/streaming_shard.py --dataset my.jsonl --text-column body --label-column stars
    torchrun --nproc-per-node 4 labs/streaming_shard.py     the same ranks, started by torchrun
"""

from __future__ import annotations

import argparse
import sys

from llmpipe import World, load_tokenizer, open_source
from llmpipe.classification.labels import padding_ratio, truncation_ratio
from llmpipe.classroom.ranks.jobs import ReviewSettings, classify_batches
from llmpipe.classroom.ranks.report import coordination_table, label_table, rank_table, totals_card
from llmpipe.classroom.ranks.script import parser_of, positive, run_compared, run_script
from llmpipe.metrics import card

ALONE_ROWS = 25_000  # what one rank reads by itself first, for the others to be compared with
LABELS = {"imdb": {"0": "negative", "1": "positive"}}  # what the labels of a data set mean


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(__doc__, "imdb", "distilbert", batch_size=8, of="reviews")
    parser.set_defaults(strategy="rows")
    add = parser.add_argument
    add("--max-length", type=positive, default=256, help="ids that a review is cut to (256)")
    add(
        "--padding",
        choices=("max_length", "longest", "buckets"),
        default="max_length",
        help="to --max-length, to the longest of a batch, or that after sorting reviews by length "
        "(max_length)",
    )
    add("--text-column", default="text", metavar="NAME", help="where the reviews are (text)")
    add("--label-column", default="label", metavar="NAME", help="where their labels are (label)")
    add("--num-labels", type=positive, help="number of classes; a label beyond them is an error")
    options = parser.parse_args(arguments)
    if options.uneven == "pad":
        parser.error("--uneven pad is for language models: a review of padding has no label")
    return run_script(run, options)


def run(options: argparse.Namespace, world: World | None) -> dict | None:
    """Start the ranks, or be the one that `torchrun` made of this process; print what they did.

    Returns the figures, for JSON; None where another rank prints.
    """
    source, tokenizer = open_source(options.dataset), load_tokenizer(options.tokenizer)
    settings = ReviewSettings(
        source.parts("train", options.num_rows),
        tokenizer,
        options.max_length,
        options.batch_size,
        options.padding,
        options.text_column,
        options.label_column,
        options.num_labels,
        shows=True,
        strategy=options.strategy,
        uneven=options.uneven,
        max_batches=options.batches,
    )
    done = run_compared(
        classify_batches,
        settings,
        source,
        options,
        world,
        title="Parallel classification",
        batch=f"{options.batch_size} reviews of up to {options.max_length} ids, "
        f"padding: {options.padding}",
        alone_rows=ALONE_ROWS,
        unit="samples",
    )
    if done is None:
        return None
    if not done.totals:
        raise ValueError(f"no batch from {source.name}: it has no rows")
    ratios = {
        "reviews cut": f"{truncation_ratio(done.ledger):.1%} at {settings.max_length} ids",
        "padding": f"{padding_ratio(done.ledger):.1%} of the ids in batches",
    }
    print("\n" + label_table(done.results, LABELS.get(source.name, {})))
    print("\n" + rank_table(done.results, done.opened, unit="samples"))
    print("\nCoordination\n" + coordination_table(done.results, done.opened))
    print("\n" + totals_card(done.totals))
    print("\n" + card("Reviews", ratios))
    print("\n" + str(done.ledger))
    return done.report()


if __name__ == "__main__":
    sys.exit(main())
