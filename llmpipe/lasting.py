"""Iterators whose errors last: asked again after an error, they raise it again.

A generator that has raised just ends when it is asked again; and a loader does ask again, and would
take that end for the end of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Lasting:
    """The items of `iterator`, and then its error as often as one asks.

    >>> lasting = Lasting(map(int, ["1", "x"]))
    >>> for _ in range(3):
    ...     try:
    ...         print(next(lasting))
    ...     except ValueError as error:
    ...         print(error)
    1
    invalid literal for int() with base 10: 'x'
    invalid literal for int() with base 10: 'x'
    """

    def __init__(self, iterator: Iterator[Any], error: Exception | None = None) -> None:
        self._iterator, self._error = iterator, error

    def __iter__(self) -> Lasting:
        return self

    def __next__(self) -> Any:
        if self._error:
            raise self._error
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise


def failing(error: Exception) -> Lasting:
    """An iterator that has nothing but an error."""
    return Lasting(iter(()), error)
