"""What the two scripts of the labs share: their options, how they start ranks, how they fail."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from llmpipe.fork_server import start_fork_server
from llmpipe.kit.rank_jobs import PRELOAD
from llmpipe.launch import RankError
from llmpipe.sharding import World
from llmpipe.shares import STRATEGIES
from llmpipe.uneven import UNEVEN

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
        default="go on",
        help="ranks of unequal length: go on, all end with the shortest, or pad to the longest "
        "(go on)",
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
