"""Checks of what users pass: one error that names the argument, what is allowed, and what came."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from pathlib import Path
from typing import Any


def check_count(name: str, value: Any, least: int = 0, below: int | None = None) -> int:
    """`value` as an int, if it is an integer of `least` or more and, if given, below `below`.

    >>> check_count("block_size", 128, 1)
    128

    Raises TypeError for anything that is no integer (True is none), ValueError out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least or (below is not None and value >= below):
        allowed = f"{least} or more" if below is None else f"in [{least}, {below})"
        raise ValueError(f"{name} must be {allowed}, got {value}")
    return int(value)


def check_number(name: str, value: Any, least: float, most: float | None = None) -> None:
    """Raise TypeError or ValueError unless `value` is a number in [least, most].

    >>> check_number("min_letter_ratio", 0.6, 0, 1)
    """
    allowed = f"{least} or more" if most is None else f"in [{least}, {most}]"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number {allowed}, got {value!r}")
    if not least <= value <= (value if most is None else most):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError naming the choices, unless `value` is one of them.

    >>> check_choice("remainder", "drop", ("drop", "pad"))
    """
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")


def check_writable(file: Path) -> None:
    """Raise ValueError saying why nothing can be written to `file`, before a run that ends so.

    What stands there stays as it is; a file that is not there is made, and removed again.
    """
    if not file.absolute().parent.is_dir():
        raise ValueError(f"cannot write {file}: there is no folder {file.absolute().parent}")
    try:
        existed = file.exists()
        open(file, "ab").close()
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror}") from error
    if not existed:
        file.unlink(missing_ok=True)


def whole_number(value: Any) -> int:
    """`value`, if it is an int of 0 or more, as numbers in a saved state are; else ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError(f"a whole number of 0 or more is due, got {value!r}")
    return value
