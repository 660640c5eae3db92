"""What counts as a column of labels, and what the ledger of labelled text says of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.columns import Check, decoded, is_split, numbers, whole_text
from llmpipe.ledger import Entry, Ledger

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
        labels = decoded(labels)
    if labels.null_count:
        row = first_row + pc.index(labels.is_null(), True).as_py()
        raise ValueError(
            f"row {row} of column {name!r} is null: it has no label; drop such rows first, for "
            f"example dataset.filter(lambda row: row[{name!r}] is not None)"
        )
    if not (pa.types.is_integer(labels.type) or pa.types.is_boolean(labels.type)):
        if not len(labels):
            return pa.chunked_array([], pa.int64())
        raise TypeError(
            f"column {name!r} holds {labels.type}, not labels (integers from 0 on); make it one, "
            f"for example with dataset.class_encode_column({name!r})"
        )
    classes = numbers(labels)
    wrong = np.flatnonzero((classes < 0) | (classes >= (num_labels or MOST_LABELS)))
    if len(wrong):
        label, row = labels[int(wrong[0])].as_py(), first_row + int(wrong[0])
        raise ValueError(_out_of_range(label, name, row, num_labels))
    return labels.cast(pa.int64())


def labelled_checks(text: str, label: str, num_labels: int | None) -> dict[str, Check]:
    """What a column of texts and one of labels must pass, by their names."""
    return {text: whole_text, label: partial(label_column, num_labels=num_labels)}


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
    features = documents.features if is_split(documents) else None
    feature = (features or {}).get(column)
    return getattr(feature, "num_classes", None)


def warn_of_one_class(labels: np.ndarray, what: str) -> None:
    """A RuntimeWarning if all of two labels or more are the same."""
    if len(labels) > 1 and (labels == labels[0]).all():
        warnings.warn(
            f"all {len(labels):,} labels of {what} are {labels[0]}: nothing can be learned from "
            "one class. Is the data sorted by label? Shuffle it before rows are taken of it, take "
            "rows or parts of it and not one run, and stream it from several parts, such as the "
            "row groups of a Parquet file",
            RuntimeWarning,
            stacklevel=3,
        )


def label_ledger(
    labels: np.ndarray,
    full: np.ndarray,
    lengths: np.ndarray,
    num_special: int,
    padding: int | None = None,
) -> Ledger:
    """What became of rows with `full` ids each, `num_special` of them special, cut to `lengths`.

    Reviews come in by label. `truncated` counts reviews, and `too_long` the ids that they lost.
    Where padding is not yet decided (None) the last stage is not there.

    >>> rows = np.array([[1, 1], [5, 9], [5, 6]])  # labels, full, lengths
    >>> label_ledger(*rows, num_special=2)["truncate", "ids"].dropped
    {'too_long': 3}
    """
    counts = np.bincount(labels) if len(labels) else np.zeros(0, int)
    by_label = {f"label {label}": int(counts[label]) for label in np.flatnonzero(counts)}
    rows, num_ids, special = len(labels), int(full.sum()), num_special * len(labels)
    truncated, num_kept = int(np.count_nonzero(full > lengths)), int(lengths.sum())
    entries = [
        Entry("read", "documents", 0, rows, added=by_label),
        Entry("tokenize", "documents", rows, rows),
        Entry("tokenize", "ids", 0, num_ids, {"text": num_ids - special, "special": special}),
        Entry("truncate", "documents", rows, rows),
        Entry("truncate", "truncated", truncated, truncated),
        Entry("truncate", "ids", num_ids, num_kept, dropped={"too_long": num_ids - num_kept}),
    ]
    if padding is not None:
        entries.append(padding_entry(num_kept, padding))
    return Ledger(*entries)


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

    >>> label_counts(Ledger(Entry("read", "documents", 0, 3, added={"label 1": 3})))
    {1: 3}
    """
    found = {int(name.split()[1]): n for name, n in ledger["read", "documents"].added.items()}
    return dict(sorted(found.items()))


def truncation_ratio(ledger: Ledger) -> float | None:
    """The part of the reviews that were cut, in [0, 1]; None where there was none."""
    rows = ledger["read", "documents"].num_out
    return ledger["truncate", "truncated"].num_out / rows if rows else None


def padding_ratio(ledger: Ledger) -> float | None:
    """The part of the ids in batches that is padding, in [0, 1]; None where there was none."""
    entry = ledger["pad", "ids"]
    return entry.padded / entry.num_out if entry.num_out else None
