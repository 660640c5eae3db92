"""Programs in forks of one process that has imported torch, datasets and transformers for all.

A test that starts a dozen programs would wait for a dozen times these imports. The nursery itself
does nothing else, so that no thread is there to be lost in a fork.
"""

import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path


@contextlib.contextmanager
def nursery():
    """Gives what can stand for `subprocess.run([python, "-m", module, ...])` with its output to
    files; where processes cannot be forked, `subprocess.run` itself."""
    if not sys.platform.startswith("linux"):
        yield subprocess.run
        return
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(command, env, stdout, stderr):
        with tempfile.TemporaryDirectory() as folder:
            server.stdin.write(json.dumps([command[2:], env, folder]) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            stdout.write(Path(folder, "stdout").read_text())
            stderr.write(Path(folder, "stderr").read_text())
        return subprocess.CompletedProcess(command, status)

    try:
        yield run
    finally:
        server.stdin.close()
        server.wait()


def serve():
    import datasets
    import torch.utils.data  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401

    sys.path.insert(0, os.getcwd())  # as `python -m` does
    for line in sys.stdin:
        arguments, env, folder = json.loads(line)
        child = os.fork()
        if not child:
            status = 1
            try:
                for stream, name in ((1, "stdout"), (2, "stderr")):
                    os.dup2(os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY), stream)
                os.environ.clear()
                os.environ.update(env)
                datasets.config.HF_DATASETS_CACHE = Path(env.get("HF_DATASETS_CACHE", folder))
                sys.argv = arguments
                runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
