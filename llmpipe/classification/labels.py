"""What became of labelled text, in a few numbers, and what they say: label counts and ratios."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.ledger import Entry, Ledger
from llmpipe.streaming.state import Counts

# Where nobody said how many classes there are: of a column of other numbers this asks.
MOST_LABELS = 1000
HINT = "; name yours with text_column and label_column"  # where a column is not there


def label_column(
    labels: Any, name: str = "label", first_row: int = 0, num_labels: int | None = None
) -> pa.ChunkedArray:
    """Return class numbers as a chunked Arrow array of int64; booleans are classes 0 and 1.

    `first_row` is the number that errors give the first of them.

    >>> label_column([True, False]).to_pylist()
    [1, 0]

    Raises TypeError or ValueError naming the row of a label that is null, no integer, or not in
    [0, num_labels), or in [0, 1000) where `num_labels` is None.
    """
    if not isinstance(labels, (pa.Array, pa.ChunkedArray)):
        labels = _from_rows(list(labels), name, first_row, num_labels)
    if not isinstance(labels, pa.ChunkedArray):
        labels = pa.chunked_array([labels])
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if labels.null_count:
        row = first_row + pc.index(labels.is_null(), True).as_py()
        raise ValueError(
            f"row {row} of column {name!r} is null: it has no label; drop such rows first, for "
            f"example dataset.filter(lambda row: row[{name!r}] is not None)"
        )
    if not (pa.types.is_integer(labels.type) or pa.types.is_boolean(labels.type)):
        if not len(labels) and pa.types.is_null(labels.type):
            return labels.cast(pa.int64())
        raise TypeError(
            f"column {name!r} holds {labels.type}, not labels (integers from 0 on); make it one, "
            f"for example with dataset.class_encode_column({name!r})"
        )
    numbers = labels.to_numpy()
    wrong = np.flatnonzero((numbers < 0) | (numbers >= (num_labels or MOST_LABELS)))
    if len(wrong):
        label, row = labels[int(wrong[0])].as_py(), first_row + int(wrong[0])
        raise ValueError(_out_of_range(label, name, row, num_labels))
    return labels.cast(pa.int64())


def _from_rows(rows: list, name: str, first_row: int, num_labels: int | None) -> pa.Array:
    if all(isinstance(row, (bool, np.bool_)) for row in rows):
        return pa.array(map(bool, rows), pa.bool_())
    for index, row in enumerate(rows, first_row):
        if isinstance(row, (bool, np.bool_)) or not isinstance(row, (int, np.integer)):
            what = "null" if row is None else f"of type {type(row).__name__} ({row!r:.40})"
            raise TypeError(f"row {index} of column {name!r} is {what}, not a label (int)")
        if not -(2**63) <= row < 2**63:
            raise ValueError(_out_of_range(row, name, index, num_labels))
    return pa.array(rows, pa.int64())


def _out_of_range(label: int, name: str, row: int, num_labels: int | None) -> str:
    where = f"row {row} of column {name!r} is {label}"
    if label == -1:
        return (
            f"{where}: it has no label (the hub marks the rows of a test split so); take another "
            "split, or drop such rows"
        )
    if num_labels is None:
        return (
            f"{where}; labels are numbers of classes from 0 on. If there are more than "
            f"{MOST_LABELS:,} classes, say so with num_labels"
        )
    return f"{where}, but labels must be in [0, {num_labels}); num_labels is the number of classes"


def known_num_labels(documents: Any, column: str) -> int | None:
    """The number of classes, where a data set of `datasets` says it for this column."""
    feature = (getattr(documents, "features", None) or {}).get(column)
    return getattr(feature, "num_classes", None)


def warn_of_one_class(labels: np.ndarray, what: str) -> None:
    """A RuntimeWarning if all of two labels or more are the same."""
    if len(labels) > 1 and (labels == labels[0]).all():
        warnings.warn(
            f"all {len(labels):,} labels of {what} are {labels[0]}: nothing can be learned from "
            "one class. Is the data sorted by label? Shuffle it before rows are taken of it, deal "
            "rows or parts of it and not one run, and stream it from several parts, such as the "
            "row groups of a Parquet file",
            RuntimeWarning,
            stacklevel=3,
        )


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
