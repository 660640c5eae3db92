"""Real bugs that people meet: each with a name, a switch, the invariant that finds it, its thread.

They live here and not in a notebook's cell, because a cell cannot be sent to another process. Each
switch is a function that takes `broken`; beside it stand those that return the numbers a lab shows,
which are offered here too. To read: `bug`, then `lab1` to `lab4`; `BUGS` holds all by name.
"""

from __future__ import annotations

from llmpipe.classroom.bugs import lab1, lab2, lab3, lab4
from llmpipe.classroom.bugs.lab1 import group, ids_copied, ids_lost, join_seconds
from llmpipe.classroom.bugs.lab2 import resumed_after, rows_read
from llmpipe.classroom.bugs.lab3 import documents_read, rows_by_rank, steps_by_rank
from llmpipe.classroom.bugs.lab4 import logits_by_padding, special_tokens_written, tokens_of

__all__ = [
    "BUGS",
    "documents_read",
    "group",
    "ids_copied",
    "ids_lost",
    "join_seconds",
    "logits_by_padding",
    "resumed_after",
    "rows_by_rank",
    "rows_read",
    "special_tokens_written",
    "steps_by_rank",
    "tokens_of",
]

BUGS = {bug.name: bug for lab in (lab1, lab2, lab3, lab4) for bug in lab.BUGS}
