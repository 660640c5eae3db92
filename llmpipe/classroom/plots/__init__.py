"""Figures for the labs: numbers in, one `Figure` out, its numbers in words in `figure.caption`.

    figure = plots.tokenizer_speeds({"one by one": 0.4e6, "batched": 0.9e6, "fast": 37e6})
    figure.caption

No function here measures or keeps anything, and none touches pyplot. All are drawn of what is in
`colours` and `figure`, and say their numbers with `words`.
"""

from llmpipe.classroom.plots.lengths import (
    cost_by_length,
    ids_lost,
    lengths_and_cuts,
    lengths_before_after,
    padding_costs,
)
from llmpipe.classroom.plots.pipeline import block_origins, ledger_waterfall, pipeline_map
from llmpipe.classroom.plots.ranks import (
    coverage_map,
    rank_bars,
    read_amplification,
    scaling,
    time_line,
)
from llmpipe.classroom.plots.speed import (
    labs_compared,
    loader_speeds,
    memory_by_rows,
    quadratic,
    threads_or_processes,
    throughput_by,
    throughput_over_time,
    tokenizer_speeds,
)
from llmpipe.classroom.plots.training import accuracy_curves, label_shares, loss_curve

__all__ = [
    "accuracy_curves",
    "block_origins",
    "cost_by_length",
    "coverage_map",
    "ids_lost",
    "label_shares",
    "labs_compared",
    "ledger_waterfall",
    "lengths_and_cuts",
    "lengths_before_after",
    "loader_speeds",
    "loss_curve",
    "memory_by_rows",
    "padding_costs",
    "pipeline_map",
    "quadratic",
    "rank_bars",
    "read_amplification",
    "scaling",
    "threads_or_processes",
    "throughput_by",
    "throughput_over_time",
    "time_line",
    "tokenizer_speeds",
]
