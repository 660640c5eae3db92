"""TODO"""

from __future__ import annotations

from typing import Any

import numpy as np


def check_block_size(block_size: int) -> None:
    """Raise TypeError or ValueError unless `block_size` is an integer of 1 or more."""
    if isinstance(block_size, bool) or not isinstance(block_size, (int, np.integer)):
        raise TypeError(f"block_size must be an integer, got {block_size!r}")
    if block_size < 1:
        raise ValueError(f"block_size must be 1 or more, got {block_size}")


def whole_number(number: Any) -> int:
    """Raise ValueError unless it is an integer of 0 or more, as all numbers of a state are."""
    if type(number) is not int or number < 0:
        raise ValueError(f"a whole number of 0 or more is due, got {number!r}")
    return number


def check_count(name: str, value: Any, least: int) -> None:
    """Raise TypeError or ValueError unless `value` is an integer of `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
