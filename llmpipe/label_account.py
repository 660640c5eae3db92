"""What became of labelled text, in a few numbers, and what they say: label counts and ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from llmpipe.account import Counts
from llmpipe.ledger import Entry, Ledger


@dataclass(frozen=True)
class LabelAccount(Counts):
    """Reviews by label, and ids by what became of them.

    Of `text` ids and the `control` ids around them `cut` were too many, in `truncated` reviews;
    `padding` were added.

    >>> one = LabelAccount({"label 0": 1}, text=9, control=2, truncated=1, cut=3, padding=0)
    >>> (one + one).ledger()["truncate", "ids"].dropped
    {'too_long': 6}
    """

    stream: ClassVar[str] = "ClassificationStream"

    labels: Mapping[str, int] = field(default_factory=dict)
    text: int = 0
    control: int = 0
    truncated: int = 0
    cut: int = 0
    padding: int = 0

    @classmethod
    def of(
        cls, labels: np.ndarray, full: np.ndarray, lengths: np.ndarray, control: int, padding: int
    ) -> LabelAccount:
        """Of rows with `full` ids each, `control` of them around the text, cut to `lengths`."""
        counts = np.bincount(labels) if len(labels) else np.zeros(0, int)
        num_ids, num_control = int(full.sum()), control * len(labels)
        return cls(
            {f"label {label}": int(counts[label]) for label in np.flatnonzero(counts)},
            text=num_ids - num_control,
            control=num_control,
            truncated=int(np.count_nonzero(full > lengths)),
            cut=int(num_ids - lengths.sum()),
            padding=int(padding),
        )

    @property
    def rows(self) -> int:
        return sum(self.labels.values())

    def ledger(self, padded: bool = True) -> Ledger:
        """The account by stage; without the last one where padding is not yet decided.

        Reviews come in by label. `truncated` counts reviews, and `too_long` the ids that they lost.
        """
        rows, num_ids = self.rows, self.text + self.control
        labels = dict(sorted(self.labels.items(), key=lambda item: int(item[0].split()[1])))
        entries = [
            Entry("read", "documents", 0, rows, added=labels),
            Entry("tokenize", "documents", rows, rows),
            Entry("tokenize", "ids", 0, num_ids, {"text": self.text, "control": self.control}),
            Entry("truncate", "documents", rows, rows),
            Entry("truncate", "truncated", self.truncated, self.truncated),
            Entry("truncate", "ids", num_ids, num_ids - self.cut, dropped={"too_long": self.cut}),
        ]
        if padded:
            entries.append(padding_entry(num_ids - self.cut, self.padding))
        return Ledger(*entries).check()


def padding_entry(num_ids: int, padding: int) -> Entry:
    """The entry of a stage that pads.

    >>> padding_entry(6, padding=2).num_out
    8
    """
    return Entry("pad", "ids", num_ids, num_ids + padding, added={"padding": padding})


def batch_ledger(batches: Iterable[Mapping]) -> Ledger:
    """What batches hold, each a dict with an `attention_mask`: ids in, padding added."""
    sizes = [(int(b["attention_mask"].sum()), b["attention_mask"].numel()) for b in batches]
    num_ids = sum(real for real, _ in sizes)
    return Ledger(padding_entry(num_ids, sum(size for _, size in sizes) - num_ids))


def label_counts(ledger: Ledger) -> dict[int, int]:
    """How many reviews of each label came in; ledgers of all ranks added up count them all.

    >>> label_counts(LabelAccount({"label 1": 3}).ledger())
    {1: 3}
    """
    return {int(name.split()[1]): n for name, n in ledger["read", "documents"].added.items()}


def truncation_ratio(ledger: Ledger) -> float | None:
    """The part of the reviews that were cut, in [0, 1]; None where there was none."""
    rows = ledger["read", "documents"].num_out
    return ledger["truncate", "truncated"].num_out / rows if rows else None


def padding_ratio(ledger: Ledger) -> float | None:
    """The part of the ids in batches that is padding, in [0, 1]; None where there was none."""
    entry = ledger["pad", "ids"]
    return entry.padded / entry.num_out if entry.num_out else None
