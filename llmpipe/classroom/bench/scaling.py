"""Do more ranks do more? Tokens/s of 1, 2 and 4 ranks over the sample's WikiText-103.

In steady state: the rates of all ranks, each from its own first batch to its last, added up. The
sample is made while it is read, by each rank its own part, and is as long as one likes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

from llmpipe.classroom.bench.child import answer

NUM_ROWS = 1_640_000  # 100 million ids with GPT-2's vocabulary
NUM_RANKS = (1, 2, 4)
REPEATS = 3


def measure(tokenizer: Any, num_rows: int | None, say: Callable[[str], None]) -> dict:
    """Run 1, 2 and 4 ranks in turn, `REPEATS` times; `num_rows` instead of `NUM_ROWS` if given.

    Returns `num_rows`, `num_ids` in the batches of one rank, `repeats`; `tokens_per_s` by number of
    ranks, medians; and `ratios`, "2/1" and "4/2": the medians of each repeat's ratios.
    """
    num_rows = num_rows or NUM_ROWS
    runs = []
    for index in range(REPEATS):
        runs.append(answer(__name__, tokenizer.folder, num_rows, LLMPIPE_SOURCE="sample"))
        rates = ", ".join(f"{n}: {each['tokens_per_s'] / 1e6:.1f}" for n, each in runs[-1].items())
        say(f"repeat {index + 1} of {REPEATS}, million tokens/s by ranks: {rates}")
    rates = {n: [run[n]["tokens_per_s"] for run in runs] for n in map(str, NUM_RANKS)}
    return {
        "num_rows": num_rows,
        "num_ids": runs[-1]["1"]["num_ids"],
        "repeats": REPEATS,
        "tokens_per_s": {number: median(found) for number, found in rates.items()},
        "ratios": {
            f"{many}/{few}": median(
                more / less for more, less in zip(rates[many], rates[few], strict=True)
            )
            for few, many in pairwise(rates)
        },
    }


def notes(scaling: dict) -> list[str]:
    """What `measure` found, in words."""
    from llmpipe.classroom.plots.words import plural

    rates = ", ".join(
        f"{plural(int(number), 'rank')} {rate / 1e6:.1f}"
        for number, rate in scaling["tokens_per_s"].items()
    )
    ratios = ", ".join(
        "{} ranks {:.2f} times {}".format(name.split("/")[0], ratio, name.split("/")[1])
        for name, ratio in scaling["ratios"].items()
    )
    return [
        f"scaling, million tokens/s: {rates}; {ratios} (medians of {scaling['repeats']} in turn), "
        f"over {scaling['num_rows']:,} rows of the sample, {scaling['num_ids'] / 1e6:.4g} million "
        f"ids, each rank from its first batch to its last"
    ]


def draw(axes: Any, scaling: dict) -> None:
    """The rate of each number of ranks as a bar."""
    from llmpipe.classroom.plots.colours import BLUE
    from llmpipe.classroom.plots.figure import lying_bars
    from llmpipe.classroom.plots.words import plural

    bars = {plural(int(n), "rank"): rate / 1e6 for n, rate in scaling["tokens_per_s"].items()}
    lying_bars(axes, bars, "{:.1f}".format, [BLUE], [""])
    axes.set_xlabel(f"million tokens/s over {scaling['num_ids'] / 1e6:.3g} million ids")


def run_child(tokenizer_folder: str, num_rows: str) -> dict[int, dict]:
    """What a process of `measure` does: all batches, by each number of ranks."""
    from llmpipe.launching.start import STREAMING, start_fork_server

    # The pool is no part of a pipeline: no rank makes it while another is measured.
    preload = [*STREAMING, "llmpipe.classroom.bench.sample_pool"]
    start_fork_server(preload)
    from llmpipe import load_tokenizer, open_source, run_ranks
    from llmpipe.classroom.ranks.jobs import Settings, stream_batches

    parts = open_source("wikitext-103").parts("train", int(num_rows))
    settings = Settings(parts, load_tokenizer(tokenizer_folder), batch_size=8)
    found = {}
    for number in NUM_RANKS:
        ranks = run_ranks(stream_batches, number, settings, preload=preload)
        # Each rank's own rate, from its first batch to its last: start-up is not in it.
        found[number] = {
            "num_ids": sum(rank["tokens"] for rank in ranks),
            "tokens_per_s": sum(rank["tokens_per_s"] for rank in ranks),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(run_child(*sys.argv[1:])))
