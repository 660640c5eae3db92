"""Figures for the labs: numbers in, one `Figure` out, its numbers in words in `figure.caption`.

    figure = plots.tokenizer_speeds({"one by one": 0.4e6, "batched": 0.9e6, "fast": 37e6})
    figure.caption

No function here measures or keeps anything, and none touches pyplot. All are drawn of what is in
`colours` and `figure`, and say their numbers with `words`. matplotlib is imported with the first.
"""

from importlib import import_module
from typing import Any

_DRAWN_IN = {
    "lengths": "cost_by_length ids_lost lengths_and_cuts lengths_before_after padding_costs",
    "pipeline": "block_origins ledger_waterfall pipeline_map",
    "ranks": "coverage_map label_shares rank_bars read_amplification scaling time_line",
    "measures": "accuracy_curves labs_compared loader_speeds loss_curve memory_by_rows quadratic "
    "threads_or_processes throughput_by throughput_over_time tokenizer_speeds",
}
_HOMES = {name: module for module, names in _DRAWN_IN.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmpipe.classroom.plots' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
