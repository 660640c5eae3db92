"""How titles and captions write numbers, and what is asked of the numbers that come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmpipe.arguments import check_number

whole = "{:,}".format


def short(number: float) -> str:
    """A number as one reads it aloud.

    >>> short(2_357_942), short(18421), short(54), short(0.25)
    ('2.36 M', '18,421', '54', '0.25')
    """
    if abs(number) >= 1e6:
        return f"{number / 1e6:,.3g} M" if abs(number) < 1e9 else f"{number / 1e9:,.3g} G"
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{number:.3g}"


def percent(ratio: float) -> str:
    """A ratio in words; what is not all is never rounded to all.

    >>> percent(0.25), percent(0.0123), percent(1), percent(0.99999)
    ('25%', '1.23%', '100%', '99.9%')
    """
    return f"{100 * ratio:.3g}%" if ratio <= 0.999 or ratio == 1 else "99.9%"


def plural(number: int, noun: str) -> str:
    """
    >>> plural(1, "rank"), plural(2, "rank")
    ('1 rank', '2 ranks')
    """
    return f"{number} {noun}{'s' if number > 1 else ''}"


def listed(
    values: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    words: Callable[[Any], str] = short,
    between: str = ", ",
) -> str:
    """Names and values for a caption.

    >>> listed({1000: 0.25, "all": 1}, percent)
    '1,000: 25%, all: 100%'
    """
    pairs = values.items() if isinstance(values, Mapping) else values
    named = (
        (name if isinstance(name, str) else f"{name:,}", words(value)) for name, value in pairs
    )
    return between.join(f"{name}: {said}" for name, said in named)


def extremes(values: Mapping[Any, float]) -> tuple[Any, Any]:
    """The names of the least and of the most, the first of each where several are.

    >>> extremes({"a": 2, "b": 1, "c": 2})
    ('b', 'a')
    """
    return min(values, key=values.__getitem__), max(values, key=values.__getitem__)


def check_ratios(name: str, ratios: Iterable[float]) -> None:
    """Raise ValueError unless all `ratios` are in [0, 1]."""
    for ratio in ratios:
        check_number(name, ratio, 0, 1)


def same_length(**columns: Any) -> None:
    """Raise ValueError unless all the named columns have one length, of at least 1."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        counted = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"needs as many of each, and at least one, got {counted}")
