"""A program of its own for everything that is measured: what another did before is not in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any


def run_module(module: str, *arguments: object, what: str = "", **environment: str) -> str:
    """What `python -m module arguments` prints, with `environment` added to this process's own.

    Raises RuntimeError with the last lines of its errors if it fails; `what` is its name there.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # Into files and not through pipes: those would stay open until a fork server is gone too.
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        settings = {**os.environ, **environment}
        done = subprocess.run(command, env=settings, stdout=printed, stderr=errors)
        printed.seek(0)
        errors.seek(0)
        if done.returncode:
            lines = errors.read().strip().splitlines() or [f"exit status {done.returncode}"]
            raise RuntimeError("\n".join([f"{what or module} failed: {lines[-1]}", *lines[-30:]]))
        return printed.read()


def answer(module: str, *arguments: object, **environment: str) -> Any:
    """The same for a program whose last line is JSON: what that says."""
    return json.loads(run_module(module, *arguments, **environment).splitlines()[-1])
