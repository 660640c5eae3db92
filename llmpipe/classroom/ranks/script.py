"""What the two scripts of the labs share: options, how ranks are shown and stopped, errors."""

from __future__ import annotations

import json
import logging
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from llmpipe.arguments import check_writable
from llmpipe.classroom.ranks.bars import Progress, RankBars
from llmpipe.classroom.ranks.report import total_ledger
from llmpipe.launching.distributed import UNEVEN, meeting_point
from llmpipe.launching.launch import run_ranks
from llmpipe.launching.rank import RankError
from llmpipe.launching.start import STREAMING, start_fork_server
from llmpipe.metrics import card, usable_cores
from llmpipe.sharding.share import STRATEGIES
from llmpipe.sharding.world import World
from llmpipe.streaming.state import collect, read_state, save_state

PRELOAD = (*STREAMING, "llmpipe.classroom.ranks.script", "llmpipe.classroom.ranks.measure")

logger = logging.getLogger("llmpipe.labs")


def parser_of(
    description: str, dataset: str, tokenizer: str, batch_size: int, of: str, strategy: str
) -> ArgumentParser:
    """The options that both scripts have; a batch holds so many `of`, `strategy` is the default."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add, file = parser.add_argument, {"type": writable_file, "metavar": "FILE"}
    add("--workers", type=positive, default=4, help="number of processes, one a rank (4)")
    add("--dataset", default=dataset, help=f"short name, owner/name, file or folder ({dataset})")
    add("--tokenizer", default=tokenizer, help=f"short name, owner/name or folder ({tokenizer})")
    add("--batch-size", type=positive, default=batch_size, help=f"{of} in a batch ({batch_size})")
    add("--batches", type=positive, help="stop each rank after so many batches (all)")
    add("--num-rows", type=positive, help="first rows to read; of the sample, rows to make (all)")
    by = (
        "who reads what: every n-th row, or every n-th thousand of them, for which each of n ranks "
        "reads everything; every n-th part; or one contiguous run each "
    )
    add("--strategy", choices=STRATEGIES, help=f"{by}({strategy})")
    ends = (
        "ranks of unequal length: each continues to its own end, all end with the shortest, or pad "
        "to the longest (continue)"
    )
    add("--uneven", choices=UNEVEN, default="continue", help=ends)
    saved = (
        "write there where the ranks stand at the end, after --batches, on Ctrl-C or an error, "
        "each at its last message, of which it sends four a second (under torchrun only at the end)"
    )
    add("--save-state", **file, help=saved)
    resumed = "go on where FILE was saved, on any number of --workers, other options unchanged"
    add("--resume", type=Path, metavar="FILE", help=resumed)
    add("--json", **file, help="write all figures there, as JSON")
    add("--verbose", action="store_true", help="log what happens, with the rank")
    parser.set_defaults(states=None, port=None, alone=False)
    return parser


def parsed(parser: ArgumentParser, arguments: list[str] | None) -> Namespace:
    """The options; what does not go together is an error that names both."""
    options = parser.parse_args(arguments)
    state = "--save-state" if options.save_state else "--resume" if options.resume else None
    bound = options.strategy and "--strategy"
    bound = f"--uneven {options.uneven}" if options.uneven != "continue" else bound
    if state and bound:
        parser.error(
            f"{bound} with {state}: what is left is divided again among any number of ranks, each "
            f"by itself; leave {bound} out"
        )
    return options


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be an integer of 1 or more, got {text!r}")
    return int(text)


def writable_file(text: str) -> Path:
    file = Path(text)
    try:
        check_writable(file)
        check_writable(file.with_name(f"{file.name}.part"))  # which then takes its place
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return file


def run_script(run: Callable[..., dict | None], options: Namespace) -> int:
    """Call `run(options, world)`, write what it returns as JSON if asked; the exit status.

    `world` is the place that `torchrun` gave this process, or None. An error is one line.
    """
    if options.verbose:
        show_log()
    try:
        world = World.from_environment()
        if world:
            options.workers = world.world_size
        else:
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


def introduce(title: str, batch: str, source: Any, told: tuple, world: World | None) -> dict:
    """Print what is about to run, unless another rank does: what ranks are `told`, as a job is."""
    parts, tokenizer, options = told
    num_parts = len(parts.weights)
    states = options.states or []
    configuration = {
        "data": f"{source}, in {num_parts:,} part{'s' * (num_parts != 1)}",
        "tokenizer": f"{tokenizer.name}, from {tokenizer.origin}, by {tokenizer.backend_name}",
        "rows": "all" if options.num_rows is None else options.num_rows,
        "ranks": f"{options.workers} processes on {usable_cores()} cores",
        "strategy": f"{options.strategy or 'virtual shards'}; ranks of unequal length: "
        f"{options.uneven}",
        "batch": batch,
        **({"resumed": f"{options.resume}, where {len(states)} ranks stood"} if states else {}),
    }
    if world is None or world.rank == 0:
        print(card(title, configuration), "\n", flush=True)
    return configuration


def run_alone(job: Callable, world: World | None, parts: Any, told: tuple) -> dict | None:
    """What one rank by itself makes of other `parts`, to compare all with.

    None in a process that `torchrun` started and that is not the first.
    """
    _, tokenizer, options = told
    plain = {"uneven": "continue", "batches": None, "save_state": None, "states": None}
    told = parts, tokenizer, Namespace(**(vars(options) | plain | {"alone": True}))
    if world is None:
        return run_ranks(job, 1, *told, preload=PRELOAD)[0]
    return job(World(), lambda message: None, *told) if world.rank == 0 else None


@contextmanager
def shown(options: Namespace, world: World | None, unit: str) -> Iterator[Progress]:
    """Within, what ranks send is shown: by progress bars on a terminal, by lines elsewhere.

    Where they are stopped it prints the last that each told, and saves its state if asked to.
    Ranks that wait for each other find `options.port` filled in.
    """
    with ExitStack() as stack:
        if options.uneven != "continue" and not world:
            options.port = stack.enter_context(meeting_point())
        bars = RankBars(options.workers, unit) if on_terminal() and not world else None
        progress = Progress(unit, stack.enter_context(bars) if bars else None)
        try:
            yield progress
        except (KeyboardInterrupt, SystemExit, RankError) as error:
            stack.close()  # the bars first
            if not isinstance(error, RankError) and not world:
                print("\nstopped; the last that each rank told:\n" + progress.table(), flush=True)
                if options.save_state:
                    print_ledger(options, list(progress.last.values()))
            if not world or world.rank == 0:
                save_states(options, progress.last)
            raise


def on_terminal() -> bool:
    """Whether standard error is a terminal: closed, or absent as under pythonw, it is none."""
    return bool(sys.stderr) and not sys.stderr.closed and sys.stderr.isatty()


def print_ledger(options: Namespace, results: list[dict]) -> None:
    """What all ranks together counted; where they resumed, all before them too."""
    since = f", with all that {options.resume} had counted" if options.resume else ""
    print(f"\nLedger{since}\n{total_ledger(results)}", flush=True)


def save_states(options: Namespace, told: dict[int, dict]) -> None:
    """Write the state that each rank told last to `--save-state`, if that is asked for."""
    if not options.save_state:
        return
    missing = [str(rank) for rank in range(options.workers) if rank not in told]
    if missing:
        print(f"no state is saved: nothing was heard of rank {', '.join(missing)}", flush=True)
        return
    last = [told[rank] for rank in sorted(told)]
    save_state([each["state"] for each in last], options.save_state)
    print(f"\nsaved where {len(last)} ranks stand; go on with --resume {options.save_state}")


def read_states(options: Namespace, kind: str) -> None:
    """Fill in `options.states` from `--resume`: those of all ranks, of this kind of stream."""
    if options.resume:
        states = read_state(options.resume)
        collect(states, kind)  # raises if one is missing, damaged or of another kind
        options.states = states if isinstance(states, list) else [states]


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
