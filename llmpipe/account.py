"""What one consumer of a stream is done with, in a few numbers: small enough for every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from llmpipe.ledger import Entry, Ledger


@dataclass(frozen=True)
class Counts:
    """Numbers, and numbers by reason, that add up field by field; `stream` is whose they are."""

    stream: ClassVar[str] = "stream"

    def __add__(self, other: Any) -> Any:
        sums = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Mapping):
                reasons = {**mine, **theirs}
                sums[each.name] = {r: mine.get(r, 0) + theirs.get(r, 0) for r in reasons}
            else:
                sums[each.name] = mine + theirs
        return type(self)(**sums)

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Any:
        """What `dataclasses.asdict` made a dict of. Raises ValueError or TypeError if damaged."""
        empty, read = cls(), {}
        for name, count in counts.items():
            if isinstance(getattr(empty, name, None), Mapping):
                read[name] = {str(reason): whole_number(n) for reason, n in count.items()}
            else:
                read[name] = whole_number(count)
        if len(read) != len(fields(cls)):
            raise ValueError(f"{len(fields(cls))} counts are due, got {list(read)}")
        return cls(**read)


@dataclass(frozen=True)
class Account(Counts):
    """Rows that are done with, and ids by what became of them.

    Of `rows`, `dropped` were rejected, by reason, and `documents` were given out to their last id.
    `in_blocks` ids of documents went into blocks, `padding` filled the last one, and `left_over`
    were too few for a block at the end.

    >>> done = Account(rows=3, dropped={"blank": 1}, documents=2, in_blocks=8, left_over=1)
    >>> (done + done).ledger(separators=False)["chunk", "ids"].dropped
    {'remainder': 2}
    """

    stream: ClassVar[str] = "BlockStream"

    rows: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    in_blocks: int = 0
    left_over: int = 0
    padding: int = 0

    def ledger(self, separators: bool) -> Ledger:
        """The account by stage; with `separators` the last id of each document is one.

        A document that is in blocks with some of its ids only is yet to be counted; its ids are.
        """
        ids, ends = self.in_blocks + self.left_over, self.documents * separators
        return Ledger(
            Entry("filter", "documents", self.rows, self.documents, dropped=dict(self.dropped)),
            Entry("tokenize", "documents", self.documents, self.documents),
            Entry("tokenize", "ids", 0, ids, added={"text": ids - ends, "separator": ends}),
            Entry(
                "chunk",
                "ids",
                ids,
                self.in_blocks + self.padding,
                added={"padding": self.padding},
                dropped={"remainder": self.left_over},
            ),
        ).check()


def whole_number(number: Any) -> int:
    """Raise ValueError unless it is an integer of 0 or more, as all numbers of a state are."""
    if type(number) is not int or number < 0:
        raise ValueError(f"a whole number of 0 or more is due, got {number!r}")
    return number
