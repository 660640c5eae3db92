"""What the two scripts of the labs share: their options, how they start ranks, how they fail."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from llmpipe.classroom.ranks.bars import Progress, RankBars
from llmpipe.classroom.ranks.jobs import PRELOAD, RankSettings
from llmpipe.classroom.ranks.report import totals
from llmpipe.launching.distributed import UNEVEN, meeting_point, run_under_torchrun
from llmpipe.launching.launch import RankError, run_ranks
from llmpipe.launching.start import start_fork_server
from llmpipe.ledger import Ledger
from llmpipe.metrics import card, usable_cores
from llmpipe.sharding.share import STRATEGIES
from llmpipe.sharding.world import World


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
    by_itself = replace(settings, parts=parts, uneven="continue", max_batches=None, shows=False)
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
            "--uneven shortest all end with it; take fewer --workers, or --uneven continue"
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
        if settings.uneven != "continue":
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


logger = logging.getLogger("llmpipe.labs")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, got {text!r}")
    return int(text)


def file_in_a_folder(text: str) -> Path:
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder for {text}")
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file in it")
    return Path(text)


def parser_of(
    description: str, dataset: str, tokenizer: str, batch_size: int, of: str
) -> argparse.ArgumentParser:
    """The options that both scripts have; a batch holds so many `of`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workers", type=positive, default=4, help="number of processes, one a rank (4)")
    add("--dataset", default=dataset, help=f"short name, owner/name, file or folder ({dataset})")
    add("--tokenizer", default=tokenizer, help=f"short name, owner/name or folder ({tokenizer})")
    add("--batch-size", type=positive, default=batch_size, help=f"{of} in a batch ({batch_size})")
    add("--batches", type=positive, help="stop each rank after so many batches (all)")
    add(
        "--num-rows",
        type=positive,
        help="read only the first rows; of the sample, make so many (all)",
    )
    add(
        "--strategy",
        choices=STRATEGIES,
        help="who reads what: rows or batches in turn, for which each rank reads everything; "
        "parts in turn; or one contiguous run each (parts if there are enough, else rows)",
    )
    add(
        "--uneven",
        choices=UNEVEN,
        default="continue",
        help="ranks of unequal length: continue, all end with the shortest, or pad to the longest "
        "(continue)",
    )
    add("--json", type=file_in_a_folder, metavar="FILE", help="write all figures there, as JSON")
    add("--verbose", action="store_true", help="log what happens, with the rank")
    return parser


def run_script(run: Callable[..., dict | None], options: argparse.Namespace) -> int:
    """Call `run(options, world)`, write what it returns as JSON if asked; the exit status.

    `world` is the place that `torchrun` gave this process, or None. An error is one line.
    """
    if options.verbose:
        show_log()
    try:
        world = World.from_environment()
        if world is None:
            start_fork_server(PRELOAD)  # it imports torch while this process opens the data
        report = run(options, world)
        if options.json and report:
            write_json(options.json, report)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if options.verbose:
            logger.exception("failed")
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def one_line(error: Exception) -> str:
    """What was wrong, in a line; of a rank's traceback its end, and `--verbose` shows it all.

    >>> one_line(KeyError("no column 'text'")), one_line(OSError())
    ("no column 'text'", 'OSError')
    """
    if not isinstance(error, RankError):
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        return " ".join(text.split()) or type(error).__name__
    lines = error.how.strip().splitlines()
    # The exception's own text begins at the last line that is not indented.
    last = max(number for number, line in enumerate(lines) if not line[:1].isspace() and line)
    return f"rank {error.rank} (pid {error.pid}): {' '.join(' '.join(lines[last:]).split())}"


def show_log() -> None:
    """What the package logs, ranks included, on the standard error."""
    handler = logging.StreamHandler()
    line = "%(asctime)s %(levelname)s rank %(rank)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(line, defaults={"rank": "-"}))
    logging.getLogger("llmpipe").addHandler(handler)
    logging.getLogger("llmpipe").setLevel(logging.INFO)


def write_json(file: Path, report: dict) -> None:
    """Whole or not at all: a run that is stopped leaves no half of a file."""
    unfinished = file.with_name(file.name + ".part")
    unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(file)
