"""The labs' saved outputs, made again by one command: what CI compares each run with.

    python -m llmpipe.classroom.notebooks labs/Lab1.ipynb

runs each notebook on the built-in sample, in its own folder, and saves what its cells print, with
execution counts from 1. A cell that fails leaves the file as it was, and its error is shown.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from operator import length_hint
from pathlib import Path
from typing import Any

# Saved outputs must not depend on where they were made: everything else is unset.
SETTINGS = {"LLMPIPE_SOURCE": "sample", "LLMPIPE_PROGRESS": "off"}
UNSET = ("LLMPIPE_MIRROR", "LLMPIPE_TOKENIZER_BACKEND", "HF_ENDPOINT")
MAX_CELL_SECONDS = 120


def progress(items: Iterable, description: str, **options: Any) -> Any:
    """`items` with a bar while they are gone through; none where outputs are made or compared.

    >>> list(progress([1, 2], "counting"))
    [1, 2]
    """
    from tqdm.auto import tqdm

    options["total"] = options.get("total") or length_hint(items) or None
    # One iterator: tqdm would ask twice for one, and so begin a stream twice, and its workers. A
    # stream that resumes would then begin at its beginning.
    return tqdm(iter(items), desc=description, disable=compared(), **options)


def compared() -> bool:
    """Whether outputs are made or compared, so that no bar may be drawn: it depends on the time.

    That is under pytest, and where LLMPIPE_PROGRESS is "off". TQDM_DISABLE would do, but the bar
    for notebooks does not read it.
    """
    return os.environ.get("LLMPIPE_PROGRESS") == "off" or "PYTEST_VERSION" in os.environ


def execute(path: Path) -> Any:
    """Run a notebook and return it with its outputs; nothing is written.

    Raises `nbclient.exceptions.CellExecutionError` showing the cell that failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    client = NotebookClient(
        notebook,
        timeout=MAX_CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    client.execute(env={**environment, **SETTINGS})
    return cleaned(notebook)


def cleaned(notebook: Any) -> Any:
    """The notebook with only what every run gives: tags and outputs, no timing, no widgets."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """Regenerate the outputs of the notebooks named; returns 0."""
    import nbformat

    parser = argparse.ArgumentParser(
        prog="python -m llmpipe.classroom.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks (.ipynb)")
    for path in parser.parse_args(arguments).paths:
        notebook = execute(path)
        unfinished = path.with_suffix(".part")
        nbformat.write(notebook, unfinished)
        unfinished.replace(path)
        print(f"{path}: {len(notebook.cells)} cells, outputs saved")
    return 0


if __name__ == "__main__":
    sys.exit(main())
