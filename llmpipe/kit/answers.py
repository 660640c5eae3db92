"""A student's answers, taken out of a notebook or a module without running the rest of it."""

from __future__ import annotations

import ast
import json
import re
import symtable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Statement:
    """One statement at top level: the names it binds and those it uses.

    `code` can be compiled: a tree, or the text of a cell that cannot even be parsed (`broken`),
    so that compiling it gives the student's own SyntaxError.
    """

    code: ast.Module | str
    binds: frozenset[str]
    uses: frozenset[str]
    broken: bool = False


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
        sound = [index for index in binding if not everything[index].broken]
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
        try:
            return [_statement(node) for node in ast.parse(text).body]
        except SyntaxError:
            continue
    names = re.findall(r"^(?:def|class) +(\w+)", source, re.MULTILINE)
    return [Statement(source, frozenset(names), frozenset(), broken=True)]


def _statement(node: ast.stmt) -> Statement:
    top = symtable.symtable(ast.unparse(node), "answers", "exec")
    symbols = top.get_symbols()
    binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    uses = {s.get_name() for s in symbols if s.is_referenced()}
    tables = top.get_children()
    for table in tables:  # grows as it is walked: functions inside functions
        uses |= {s.get_name() for s in table.get_symbols() if s.is_global()}
        tables.extend(table.get_children())
    return Statement(ast.Module([node], []), frozenset(binds), frozenset(uses))
