"""Answers to the exercises, kept beside what their students are shown; answers_lab*.py hold them.

right, wrong = answers_to("ids_lost")

@right
def lost_by_recursion(lengths, batch_size, block_size): ...

@wrong("[1, 1], batch_size=1, block_size=2", "0", "2")  # the smallest input, came out, was due
def lost_over_all(lengths, batch_size, block_size): ...
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

RIGHT, WRONG = defaultdict(list), defaultdict(list)


class Wrong(NamedTuple):
    """`smallest` is part of the call that is shown, `came_out` and `due` of the lines below it."""

    answer: Callable[..., Any]
    smallest: str
    came_out: str
    due: str


def answers_to(exercise):
    """The decorators `right` and `wrong(smallest, came_out, due)` for answers to one exercise."""

    def right(answer):
        RIGHT[exercise].append(answer)
        return answer

    def wrong(*shown):
        def remember(answer):
            WRONG[exercise].append(Wrong(answer, *shown))
            return answer

        return remember

    return right, wrong
