"""Real bugs that people meet: each with a name, a switch, the invariant that finds it, its thread.

They live here and not in a notebook's cell, because a cell cannot be sent to another process. Each
switch is a function that takes `broken`; the functions below it return the numbers that labs show.
Their code is in a module a lab; `BUGS` holds them all by name.
"""

from __future__ import annotations

from llmpipe.classroom.bugs import lab1, lab2, lab3, lab4
from llmpipe.classroom.bugs.bug import Bug
from llmpipe.classroom.bugs.lab1 import (
    REMAINDER_LOST,
    group,
    ids_copied,
    ids_lost,
    join,
    join_seconds,
)
from llmpipe.classroom.bugs.lab2 import (
    aliased_state,
    emit_before_refill,
    every_worker_reads_all,
    resumed_after,
    rows_read,
)
from llmpipe.classroom.bugs.lab3 import (
    RankEnd,
    RowsByRank,
    batches_to_train,
    documents_read,
    rows_by_rank,
    rows_kept,
    steps_by_rank,
    world_of,
)
from llmpipe.classroom.bugs.lab4 import (
    attention_mask,
    class_counts,
    control_ids_written,
    logits_by_padding,
    pieces,
    positives_by_rank,
    rows_of_rank,
    tokenizer_for_reviews,
)

__all__ = [
    "BUGS",
    "REMAINDER_LOST",
    "Bug",
    "RankEnd",
    "RowsByRank",
    "aliased_state",
    "attention_mask",
    "batches_to_train",
    "class_counts",
    "control_ids_written",
    "documents_read",
    "emit_before_refill",
    "every_worker_reads_all",
    "group",
    "ids_copied",
    "ids_lost",
    "join",
    "join_seconds",
    "logits_by_padding",
    "pieces",
    "positives_by_rank",
    "resumed_after",
    "rows_by_rank",
    "rows_kept",
    "rows_of_rank",
    "rows_read",
    "steps_by_rank",
    "tokenizer_for_reviews",
    "world_of",
]

LABS = (lab1, lab2, lab3, lab4)
BUGS = {bug.name: bug for lab in LABS for bug in lab.BUGS}
