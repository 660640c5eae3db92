"""What one consumer of a stream is done with, in seven numbers: small enough for every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from llmpipe.ledger import Entry, Ledger


@dataclass(frozen=True)
class Account:
    """Rows that are done with, and ids by what became of them.

    Of `rows`, `dropped` were rejected, by reason, and `documents` were given out to their last id.
    `in_blocks` ids of documents went into blocks, `padding` filled the last one, and `left_over`
    were too few for a block at the end.

    >>> done = Account(rows=3, dropped={"blank": 1}, documents=2, in_blocks=8, left_over=1)
    >>> (done + done).ledger(separators=False)["chunk", "ids"].dropped
    {'remainder': 2}
    """

    rows: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    in_blocks: int = 0
    left_over: int = 0
    padding: int = 0

    def __add__(self, other: Account) -> Account:
        mine, theirs = asdict(self), asdict(other)
        reasons = {**self.dropped, **other.dropped}
        sums = {name: mine[name] + theirs[name] for name in mine if name != "dropped"}
        dropped = {r: self.dropped.get(r, 0) + other.dropped.get(r, 0) for r in reasons}
        return Account(**sums, dropped=dropped)

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
