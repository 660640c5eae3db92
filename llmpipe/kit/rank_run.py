"""A run of the labs' scripts: what it is told, one rank by itself first, then all of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from llmpipe.kit.rank_bars import Progress, RankBars
from llmpipe.kit.rank_jobs import PRELOAD
from llmpipe.kit.rank_report import totals
from llmpipe.kit.rank_work import RankSettings
from llmpipe.launch import run_ranks
from llmpipe.ledger import Ledger
from llmpipe.metrics import card, usable_cores
from llmpipe.process_group import meeting_point, run_under_torchrun
from llmpipe.sharding import World


class Run(NamedTuple):
    """What the ranks returned, when they were started (`time.monotonic`), and their `totals`."""

    configuration: dict[str, Any]
    results: list[dict]
    opened: float
    totals: dict

    @property
    def ledger(self) -> Ledger:
        """The account of all ranks together."""
        ledgers = (Ledger.from_dicts(result["ledger"]) for result in self.results)
        return sum(ledgers, Ledger()).check()

    def report(self) -> dict:
        """All figures, for JSON."""
        return {"configuration": self.configuration, "totals": self.totals, "ranks": self.results}


def run_compared(
    job: Callable,
    settings: RankSettings,
    source: Any,
    options: argparse.Namespace,
    world: World | None,
    *,
    title: str,
    batch: str,
    alone_rows: int,
    unit: str = "ids",
) -> Run | None:
    """Print what is about to run, run one rank by itself over `alone_rows`, then all of them.

    `world` is the place that `torchrun` gave this process, or None: then the ranks are started
    here. Where another rank prints, None is returned. `batch` says in words what a batch is.

    Raises ValueError where all ranks ended before their first batch since one of them had none.
    """
    num_ranks = world.world_size if world else options.workers
    configuration = _configuration(settings, source, options, num_ranks) | {"batch": batch}
    if world is None or world.rank == 0:
        print(card(title, configuration), "\n", flush=True)
    rows = min(alone_rows, options.num_rows or alone_rows)
    parts = source.parts("train", rows)
    by_itself = replace(settings, parts=parts, uneven="go on", max_batches=None, shows=False)
    alone = _run_alone(job, by_itself, world)
    opened = time.monotonic()
    results = _run_all(job, settings, num_ranks, world, unit)
    closed = time.monotonic()
    if results is None:
        return None
    if any(result["batches"] for result in results):
        return Run(configuration, results, opened, totals(results, alone, opened, closed, unit))
    if settings.uneven == "shortest":
        raise ValueError(
            f"no batch from {source.name}: at least one of {num_ranks} ranks has none, and by "
            "--uneven shortest all end with it; take fewer --workers, or --uneven 'go on'"
        )
    return Run(configuration, results, opened, {})


def _configuration(
    settings: RankSettings, source: Any, options: argparse.Namespace, num_ranks: int
) -> dict[str, Any]:
    tokenizer, num_parts = settings.tokenizer, len(settings.parts.weights)
    return {
        "data": f"{source}, in {num_parts:,} part{'s' * (num_parts != 1)}",
        "tokenizer": f"{tokenizer.name}, from {tokenizer.origin}, by {tokenizer.backend_name}",
        "rows": "all" if options.num_rows is None else options.num_rows,
        "ranks": f"{num_ranks} processes on {usable_cores()} cores",
        "strategy": f"{settings.strategy}; ranks of unequal length: {settings.uneven}",
    }


def _run_alone(job: Callable, settings: RankSettings, world: World | None) -> dict | None:
    """The result of one rank that runs by itself; None in a process that does not lead."""
    if world is None:
        return run_ranks(job, 1, settings, preload=PRELOAD)[0]
    return job(World(), lambda message: None, settings) if world.rank == 0 else None


def _run_all(
    job: Callable, settings: RankSettings, num_ranks: int, world: World | None, unit: str
) -> list[dict] | None:
    """The results of all ranks, None where another rank has them; `settings.port` is filled in.

    They are shown at work: by progress bars on a terminal, by lines elsewhere.
    """
    if world:
        return run_under_torchrun(job, world, settings, on_message=Progress(unit))
    with ExitStack() as stack:
        if settings.uneven != "go on":
            settings = replace(settings, port=stack.enter_context(meeting_point()))
        on_terminal = sys.stderr.isatty()
        bars = stack.enter_context(RankBars(num_ranks, unit)) if on_terminal else None
        progress = Progress(unit, bars)
        try:
            return run_ranks(job, num_ranks, settings, preload=PRELOAD, on_message=progress)
        except (KeyboardInterrupt, SystemExit):
            stack.close()  # the bars first
            print("\nstopped; the last that each rank told:\n" + progress.table(), flush=True)
            raise
