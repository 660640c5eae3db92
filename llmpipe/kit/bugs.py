"""Real bugs that people meet: each with a name, a switch, the invariant that finds it, its thread.

They live here and not in a notebook's cell, because a cell cannot be sent to another process. Each
switch is a function that takes `broken`; the functions below it return the numbers that labs show.
Their code is in a module a lab; `BUGS` holds them all by name.
"""

from __future__ import annotations

from llmpipe.kit import bugs_lab1, bugs_lab2
from llmpipe.kit.bug import Bug
from llmpipe.kit.bugs_lab1 import (
    REMAINDER_LOST,
    group,
    ids_copied,
    ids_lost,
    join,
    join_seconds,
)
from llmpipe.kit.bugs_lab2 import (
    aliased_state,
    emit_before_refill,
    every_worker_reads_all,
    resumed_after,
    rows_read,
)

__all__ = [
    "BUGS",
    "REMAINDER_LOST",
    "Bug",
    "aliased_state",
    "emit_before_refill",
    "every_worker_reads_all",
    "group",
    "ids_copied",
    "ids_lost",
    "join",
    "join_seconds",
    "resumed_after",
    "rows_read",
]

BUGS = {bug.name: bug for bug in (*bugs_lab1.BUGS, *bugs_lab2.BUGS)}
