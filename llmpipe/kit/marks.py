"""Marks for a class: the checks of `llmpipe.kit.checks`, run on notebooks or modules of students.

    python -m llmpipe.kit.checks submissions/*.ipynb --json marks.json

A notebook is not run. Of each answer, the last function of that name is taken, with just the
imports, functions, classes and assignments at top level that it needs: thirty notebooks take a
minute or so and no data, and a cell that fails elsewhere costs no marks. Each answer runs in a
process of its own, for 60 s at most. That is still students' code on your machine: run it where it
can do no harm.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmpipe.kit.answers import statements, statements_for
from llmpipe.kit.checks import EXERCISES, LABS, NOT_ATTEMPTED, WRONG, Result, examine
from llmpipe.metrics import table, usable_cores

MAX_PROCESS_SECONDS = 60


def main(arguments: list[str] | None = None) -> int:
    """Print a table of marks, write them as JSON; 1 if a file could not be read, else 0.

    The JSON: {path: {"lab": "Lab1", "right": 3, "of": 5, "exercises": {name: {"state": ...,
    "message": ...}}}}, or {path: {"error": ...}}.
    """
    parser = argparse.ArgumentParser(
        prog="python -m llmpipe.kit.checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks (.ipynb) or modules (.py)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the marks to FILE")
    parser.add_argument("--lab", choices=list(LABS), help="the lab (by default, told by names)")
    parser.add_argument("--only", choices=list(EXERCISES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        print(json.dumps(vars(mark(options.paths[0], options.only))))
        return 0
    marks = {str(path): mark_file(path, options.lab) for path in options.paths}
    print(summary(marks))
    if options.json:
        options.json.write_text(json.dumps(marks, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(any("error" in one for one in marks.values()))


def summary(marks: dict[str, dict]) -> str:
    """One table a lab, one line a file; then the files that could not be read."""
    parts = []
    for lab, exercises in LABS.items():
        rows = [
            {
                "file": path,
                **{e.name: one["exercises"][e.name]["state"] for e in exercises},
                "right": f"{one['right']} of {one['of']}",
            }
            for path, one in marks.items()
            if one.get("lab") == lab
        ]
        parts += [table(rows)] if rows else []
    parts += [f"{path}: {one['error']}" for path, one in marks.items() if "error" in one]
    return "\n".join(parts)


def mark_file(path: Path, lab: str | None = None) -> dict:
    """The marks of one file: every exercise of the lab, each in its own process."""
    try:
        defined = {name for statement in statements(path) for name in statement.binds}
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    by_names = (name for name, lab_ in LABS.items() if defined & {e.name for e in lab_})
    lab = lab or next(by_names, None)
    if lab is None:
        return {"error": f"defines none of the exercises: {', '.join(EXERCISES)}"}
    names = [exercise.name for exercise in LABS[lab]]
    with ThreadPoolExecutor(usable_cores()) as pool:
        results = list(pool.map(lambda name: mark_apart(path, name), names))
    return {
        "lab": lab,
        "right": sum(result.right for result in results),
        "of": len(results),
        "exercises": {r.exercise: {"state": r.state, "message": r.message} for r in results},
    }


def mark_apart(path: Path, name: str) -> Result:
    """`mark` in a process of its own, which cannot hang or take this one with it."""
    command = [sys.executable, "-m", "llmpipe.kit.checks", str(path), "--only", name]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=MAX_PROCESS_SECONDS,
        )
        return Result(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Result(name, WRONG, f"{name}: wrong\n  stopped after {MAX_PROCESS_SECONDS} s")
    except (IndexError, ValueError, TypeError):
        return Result(name, WRONG, f"{name}: wrong\n  its process died, exit {done.returncode}")


def mark(path: Path, name: str) -> Result:
    """Take one answer out of a file and examine it; runs the student's code."""
    namespace = {"__name__": "answers"}
    needed = statements_for(name, statements(path))
    if not needed:
        return Result(name, NOT_ATTEMPTED, f"{name}: there is no function of this name")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for statement in needed:
                # `annotations` of this module's __future__ is inherited: they are not evaluated.
                exec(compile(statement.code, path.name, "exec"), namespace)
    except (Exception, SystemExit) as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        return Result(name, WRONG, f"{name}: wrong\n  its cell does not run: {line}")
    return examine(EXERCISES[name], namespace.get(name))
