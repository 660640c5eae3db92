"""What a bug of the labs is: a name, a switch, the invariant that finds it, its public thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """A bug that can be switched on.

    `story` and `invariant` are a sentence each, `thread` the address of the public discussion,
    `switch` the function that takes `broken`. `violation(broken)` puts the invariant to a small
    input: None where it holds, else what it was violated by.

    >>> from llmpipe.classroom.bugs import BUGS
    >>> print(BUGS["remainder_lost"].violation(broken=False))
    None
    """

    name: str
    story: str
    invariant: str
    thread: str
    switch: Callable[..., Any]
    violation: Callable[[bool], str | None]
