"""The `llmpipe` command: what an instructor types to run a classroom.

llmpipe mirror FOLDER            write the built-in sample, laid out as the hub
llmpipe serve FOLDER             be the hub for this machine
llmpipe serve --host 0.0.0.0     be the hub for the room, with what LLMPIPE_MIRROR holds
llmpipe bench lab4               measure a lab against its classic way, on this machine
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from llmpipe.arguments import check_writable

app = typer.Typer(
    help="Run a classroom for llmpipe's labs.", no_args_is_help=True, add_completion=False
)

DEFAULT_PORT = 8642


def fail(message: str) -> typer.Exit:
    """One line on standard error, and the exit status of a wrong call: `raise fail(...)`."""
    typer.echo(f"llmpipe: {message}", err=True)
    return typer.Exit(2)


@app.command()
def mirror(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")],
    rows: Annotated[
        int | None, typer.Option(min=1, help="At most so many rows a split; else all.")
    ] = None,
) -> None:
    """Write the built-in sample to FOLDER, laid out as the hub, and print what lies there."""
    from llmpipe.classroom.server.mirror import write_sample
    from llmpipe.classroom.server.repository import Mirror

    try:
        written = Mirror(write_sample(folder, num_rows=rows))
    except OSError as error:
        raise fail(f"cannot write the sample: {error}") from None
    typer.echo("\n".join(written.listing()))
    typer.echo(f"written to {folder}. To use it: export LLMPIPE_MIRROR={folder.resolve()}")


@app.command()
def serve(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Mirrors, owner/name/... each; LLMPIPE_MIRROR comes after them."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine alone. 0.0.0.0: the whole network.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes any that is free.")
    ] = DEFAULT_PORT,
    sample: Annotated[
        bool, typer.Option("--sample", help="The built-in sample too, where the mirrors lack it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each request.")] = False,
) -> None:
    """Answer as the hub does, with what the mirrors hold, until Ctrl-C."""
    from llmpipe.classroom.server import server

    folders = list(folders or [])
    if os.environ.get("LLMPIPE_MIRROR"):
        folders.append(Path(os.environ["LLMPIPE_MIRROR"]))
    if not folders and not sample:
        raise fail("nothing to serve: name a folder, set LLMPIPE_MIRROR, or add --sample")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("llmpipe.serve").setLevel(logging.WARNING if quiet else logging.INFO)
    # Stop as on Ctrl-C when told to by a service manager, so that the temporary folder goes too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            if sample:
                from llmpipe.classroom.server.mirror import write_sample

                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="llmpipe-"))
                folders.append(write_sample(Path(folder)))
            server.serve(*folders, host=host, port=port)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(explain(error, host, port)) from None


@app.command()
def bench(
    lab: Annotated[str, typer.Argument(help="Which lab: lab1, lab2, lab3 or lab4.")],
    dataset: Annotated[
        str | None, typer.Option(help="What `open_source` takes; by default the lab's own.")
    ] = None,
    num_rows: Annotated[
        int | None, typer.Option(min=1, help="At most so many rows; else all.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each way, alternating.")] = 3,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the times, as PNG.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers, as JSON.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Without what takes minutes: lab 2's 100 million ids, lab 3 on 1, 2 and 4 ranks.",
        ),
    ] = False,
) -> None:
    """Measure a lab's pipeline against the classic one, in the same run, and compare their ids."""
    import json

    from rich.console import Console

    from llmpipe.classroom.bench import run as benches
    from llmpipe.classroom.bench.report import bench_figure, bench_table

    if lab not in benches.BENCHES:
        raise fail(f"no bench for {lab!r}; there is {', '.join(benches.BENCHES)}")
    try:
        for file in filter(None, (plot, json_file)):
            check_writable(file)
    except ValueError as error:
        raise fail(str(error)) from None

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        report = benches.run_bench(lab, dataset, num_rows, repeats, say, not quick)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise fail(str(error)) from None
    Console().print(bench_table(benches.BENCHES[lab], report))
    if json_file:
        json_file.write_text(json.dumps({lab: report}, indent=2) + "\n", encoding="utf-8")
    if plot:
        plot.write_bytes(bench_figure(benches.BENCHES[lab], report).png())
    if not all(same for name, same in report.items() if name.endswith("_equal")):
        raise fail("the ways gave different ids: the ratio compares different work")


def explain(error: OSError, host: str, port: int) -> str:
    """Why no server could listen on `host` and `port`, and what to do about it."""
    if error.filename is not None:  # it was a file, not the port
        return str(error)
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: stop what uses it, or take another with --port (0: any)"
    if error.errno == errno.EACCES:
        return f"port {port} is not for everyone: take one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine: --host takes 127.0.0.1 or 0.0.0.0"
    return str(error)
