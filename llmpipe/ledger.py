"""Token accounting: every stage says what came in, was added, went out, was dropped or still waits.

One equation holds for each unit (documents, ids) at each stage, or the ledger refuses to exist:

    num_in + added = num_out + dropped + remainder
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from llmpipe.arguments import whole_number
from llmpipe.metrics import table


def _merged(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {reason: left.get(reason, 0) + right.get(reason, 0) for reason in {**left, **right}}


@dataclass(frozen=True)
class Entry:
    """What one stage did with one unit; `added` and `dropped` count by reason.

    >>> Entry("filter", "documents", num_in=5, num_out=3, dropped={"blank": 2}).kept_ratio
    0.6

    Raises ValueError when a count is negative or the two sides differ.
    """

    stage: str
    unit: str
    num_in: int = 0
    num_out: int = 0
    added: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    remainder: int = 0

    def __post_init__(self) -> None:
        counts = [self.num_in, self.num_out, self.remainder]
        if min([*counts, *self.added.values(), *self.dropped.values()]) < 0:
            raise ValueError(f"a ledger counts from 0 upwards, got {self}")
        came = self.num_in + sum(self.added.values())
        went = self.num_out + sum(self.dropped.values()) + self.remainder
        if came != went:
            raise ValueError(
                f"{self.unit} do not balance at stage {self.stage!r}: {self.num_in:,} in + "
                f"{sum(self.added.values()):,} added = {came:,}, but {self.num_out:,} out + "
                f"{sum(self.dropped.values()):,} dropped + {self.remainder:,} remainder = {went:,}"
            )

    def __add__(self, other: Entry) -> Entry:
        return Entry(
            self.stage,
            self.unit,
            self.num_in + other.num_in,
            self.num_out + other.num_out,
            _merged(self.added, other.added),
            _merged(self.dropped, other.dropped),
            self.remainder + other.remainder,
        )

    @property
    def padded(self) -> int:
        """Ids added only to fill a block."""
        return self.added.get("padding", 0)

    @property
    def kept_ratio(self) -> float | None:
        """`num_out / num_in` in [0, 1], or None where nothing came in."""
        return self.num_out / self.num_in if self.num_in else None


class Ledger:
    """The entries of a pipeline, in the order of its stages.

    `+` joins ledgers: entries of the same stage and unit add up (batches, ranks), others are
    appended (the next stage). `sum(ledgers, Ledger())` joins many. `check()` also compares each
    stage with the one before it.

    >>> part = Ledger(Entry("filter", "documents", num_in=3, num_out=2, dropped={"blank": 1}))
    >>> (part + part)["filter", "documents"].dropped
    {'blank': 2}
    """

    def __init__(self, *entries: Entry) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            key = (entry.stage, entry.unit)
            self._entries[key] = self._entries[key] + entry if key in self._entries else entry

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*self, *other)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __getitem__(self, key: tuple[str, str]) -> Entry:
        if key not in self._entries:
            raise KeyError(f"no entry {key}; there are {list(self._entries)}")
        return self._entries[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self._entries == other._entries

    __hash__ = None

    def check(self) -> Ledger:
        """Return the ledger if units enter a stage as they left the last, else ValueError."""
        left: dict[str, Entry] = {}
        for entry in self:
            before = left.get(entry.unit)
            if before and before.num_out != entry.num_in:
                raise ValueError(
                    f"{before.num_out:,} {entry.unit} left stage {before.stage!r}, "
                    f"but {entry.num_in:,} entered {entry.stage!r}"
                )
            left[entry.unit] = entry
        return self

    def __str__(self) -> str:
        """A table, one line an entry: stage, unit, in, added, dropped, remainder, out."""

        def reasons(counts: Mapping[str, int]) -> str:
            return ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)

        return table(
            [
                {
                    "stage": entry.stage,
                    "unit": entry.unit,
                    "in": int(entry.num_in),
                    "added": reasons(entry.added) or "-",
                    "dropped": reasons(entry.dropped) or "-",
                    "remainder": int(entry.remainder),
                    "out": int(entry.num_out),
                }
                for entry in self
            ]
        )

    def __repr__(self) -> str:
        return f"Ledger({', '.join(map(repr, self))})"

    def to_dicts(self) -> list[dict]:
        """The entries as plain dicts of numbers, for JSON; `Ledger.from_dicts` reads them back."""
        return [asdict(entry) for entry in self]

    @classmethod
    def from_dicts(cls, entries: list[dict]) -> Ledger:
        """Raises TypeError or ValueError for what `to_dicts` never gives: states can be damaged."""
        return cls(*map(_entry, entries))


def _entry(plain: Any) -> Entry:
    names = {each.name for each in fields(Entry)}
    if not isinstance(plain, dict) or set(plain) != names:
        raise ValueError(f"an entry of a ledger has {', '.join(sorted(names))}, got {plain!r:.200}")
    added, dropped = plain["added"], plain["dropped"]
    if not isinstance(added, dict) or not isinstance(dropped, dict):
        raise TypeError(f"added and dropped must count by reason, got {added!r} and {dropped!r}")
    for text in (plain["stage"], plain["unit"], *added, *dropped):
        if not isinstance(text, str):
            raise TypeError(f"stages, units and reasons must be text, got {text!r}")
    numbers = (plain["num_in"], plain["num_out"], plain["remainder"])
    for count in (*numbers, *added.values(), *dropped.values()):
        whole_number(count)
    return Entry(**plain)
