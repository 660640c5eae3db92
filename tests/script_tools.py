"""The two scripts as their tests start them: in a process of their own, and without one."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from llmpipe.sharding.world import World

LABS = Path(__file__).parents[1] / "labs"


def environment(**settings):
    return {**os.environ, "LLMPIPE_SOURCE": "sample", "OMP_NUM_THREADS": "1", **settings}


def started(command, **settings):
    """What a command printed, run as a user does."""
    command = [sys.executable, *map(str, command)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**settings), timeout=120
    )


def torchrun(script, *options, num_ranks=2):
    nproc = f"--nproc-per-node={num_ranks}"
    return started(["-m", "torch.distributed.run", "--standalone", nproc, script, *options])


def here(script, *options):
    """Status, standard output and standard error of a script that this process runs itself.

    Its ranks are real, and started by one fork server for all tests of a file.
    """
    out, err = io.StringIO(), io.StringIO()
    settings = mock.patch.dict(os.environ, LLMPIPE_SOURCE="sample")
    with settings, redirect_stdout(out), redirect_stderr(err):
        try:
            status = script.main(list(map(str, options)))
        except SystemExit as error:
            status = error.code
    return status, out.getvalue(), err.getvalue()


def interrupted(script, *options, until):
    """A script that gets a Ctrl-C after a line that begins so: the process, and what it printed."""
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith(until):
            break
    os.killpg(process.pid, signal.SIGINT)
    return process, *process.communicate(timeout=30)


def in_turn(job, world_size, *told):
    """The results of all ranks, which run here one after the other."""
    return [job(World(rank, world_size), lambda message: None, *told) for rank in range(world_size)]


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path
