"""Marks for a class: the checks of all exercises, run on notebooks or modules of students.

    python -m llmpipe.classroom.exercises submissions/*.ipynb --json marks.json

A notebook is not run. Of each answer, the last function of that name is taken, with just the
imports, functions, classes and assignments at top level that it needs: thirty notebooks take a
minute or so and no data, and a cell that fails elsewhere costs no marks. Each answer runs in a
process of its own, for 60 s at most. That is still students' code on your machine: run it where it
can do no harm.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import re
import subprocess
import symtable
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from llmpipe.arguments import check_writable
from llmpipe.classroom.exercises.check import EXERCISES, LABS, NOT_ATTEMPTED, WRONG, Result, examine
from llmpipe.metrics import table, usable_cores

MAX_PROCESS_SECONDS = 60


@dataclass(frozen=True)
class Statement:
    """One statement at top level: the names it binds and those it uses.

    `code` can be compiled: a tree, or the text of a cell that cannot even be parsed, so that
    compiling it gives the student's own SyntaxError.
    """

    code: ast.Module | str
    binds: frozenset[str]
    uses: frozenset[str]


def statements(path: Path) -> list[Statement]:
    """All statements of a `.ipynb` or `.py` file, in order.

    Raises OSError or ValueError naming a file that cannot be read.
    """
    return [statement for cell in code_cells(path) for statement in cell_statements(cell)]


def statements_for(name: str, everything: list[Statement]) -> list[Statement]:
    """The statements that `name` stands on, in order; none if nothing binds it.

    >>> cell = "import math; data = open('big.txt'); half = 2\\ndef f(x): return x / half"
    >>> [ast.unparse(s.code) for s in statements_for("f", cell_statements(cell))]
    ['half = 2', 'def f(x):\\n    return x / half']
    """
    wanted, seen, needed = {name}, set(), set()
    while wanted:
        name = wanted.pop()
        seen.add(name)
        binding = [index for index, each in enumerate(everything) if name in each.binds]
        # A cell that was broken and then written anew does no harm in a notebook.
        sound = [index for index in binding if not isinstance(everything[index].code, str)]
        needed.update(sound or binding)
        for index in sound:
            wanted |= everything[index].uses - seen
    return [everything[index] for index in sorted(needed)]


def code_cells(path: Path) -> list[str]:
    """The source of each code cell; a module is one cell."""
    text = Path(path).read_text("utf-8")
    if Path(path).suffix != ".ipynb":
        return [text]
    try:
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a notebook of format 4: {error!r}") from None


def cell_statements(source: str) -> list[Statement]:
    """The statements of one cell; lines that only IPython understands are left out."""
    for text in (source, re.sub(r"^(\s*)[%!?].*", r"\1pass", source, flags=re.MULTILINE)):
        with contextlib.suppress(SyntaxError):
            return [_statement(node) for node in ast.parse(text).body]
    names = re.findall(r"^(?:def|class) +(\w+)", source, re.MULTILINE)
    return [Statement(source, frozenset(names), frozenset())]


def _statement(node: ast.stmt) -> Statement:
    top = symtable.symtable(ast.unparse(node), "answers", "exec")
    symbols, tables = top.get_symbols(), top.get_children()
    binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    uses = {s.get_name() for s in symbols if s.is_referenced()}
    for inner in tables:  # grows as it is walked: functions inside functions
        uses |= {s.get_name() for s in inner.get_symbols() if s.is_global()}
        tables.extend(inner.get_children())
    return Statement(ast.Module([node], []), frozenset(binds), frozenset(uses))


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


def mark_apart(path: Path, name: str) -> Result:
    """`mark` in a process of its own, which cannot hang or take this one with it."""
    command = [sys.executable, "-m", "llmpipe.classroom.exercises", str(path), "--only", name]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=MAX_PROCESS_SECONDS
        )
        return Result(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Result(name, WRONG, f"{name}: wrong\n  stopped after {MAX_PROCESS_SECONDS} s")
    except (IndexError, ValueError, TypeError):
        return Result(name, WRONG, f"{name}: wrong\n  its process died, exit {done.returncode}")


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
    with ThreadPoolExecutor(usable_cores()) as pool:
        results = list(pool.map(lambda exercise: mark_apart(path, exercise.name), LABS[lab]))
    return {
        "lab": lab,
        "right": sum(result.right for result in results),
        "of": len(results),
        "exercises": {r.exercise: {"state": r.state, "message": r.message} for r in results},
    }


def summary(marks: dict[str, dict]) -> str:
    """One table a lab, one line a file; then the files that could not be read."""
    tables = []
    for lab in LABS:
        rows = [
            {
                "file": path,
                **{name: exercise["state"] for name, exercise in one["exercises"].items()},
                "right": f"{one['right']} of {one['of']}",
            }
            for path, one in marks.items()
            if one.get("lab") == lab
        ]
        tables += [table(rows)] if rows else []
    errors = [f"{path}: {one['error']}" for path, one in marks.items() if "error" in one]
    return "\n".join(tables + errors)


def main(arguments: list[str] | None = None) -> int:
    """Print a table of marks, write them as JSON; 1 if a file could not be read, else 0.

    The JSON: {path: {"lab": "Lab1", "right": 3, "of": 5, "exercises": {name: {"state": ...,
    "message": ...}}}}, or {path: {"error": ...}}.
    """
    parser = argparse.ArgumentParser(
        prog="python -m llmpipe.classroom.exercises",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks (.ipynb) or modules (.py)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the marks to FILE")
    parser.add_argument("--lab", choices=list(LABS), help="the lab (by default, told by names)")
    parser.add_argument("--only", choices=list(EXERCISES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.json:
        try:
            check_writable(options.json)
        except ValueError as error:
            parser.error(str(error))
    if options.only:
        print(json.dumps(vars(mark(options.paths[0], options.only))))
        return 0
    marks = {str(path): mark_file(path, options.lab) for path in options.paths}
    print(summary(marks))
    if options.json:
        options.json.write_text(json.dumps(marks, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(any("error" in one for one in marks.values()))
