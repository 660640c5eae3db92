"""What the tests of the notebooks share: reading one, and running a command with known settings."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat

from llmpipe.classroom import notebooks

ROOT = Path(__file__).parents[1]
UNCOMPARED = "nbval-ignore-output"
NBVAL = [sys.executable, "-m", "pytest", "--nbval", "-o", "addopts=", "-p", "no:cacheprovider"]


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags_of(cell):
    return cell.metadata.get("tags", [])


def printed(cell):
    """All that a cell printed or showed as text."""
    outputs = cell.get("outputs", [])
    return "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def settings(**changes):
    environment = {k: v for k, v in os.environ.items() if k not in notebooks.UNSET}
    return {**environment, **changes}


def run(command, cwd=ROOT, **changes):
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=900, env=settings(**changes)
    )
