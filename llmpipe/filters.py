"""Quality filters: rules asked in order, where the first to reject a document gives the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from llmpipe import rules
from llmpipe.columns import mask, require_column, text_column, to_strings
from llmpipe.ledger import Entry, Ledger

ROWS_PER_SLICE = 8192  # bounds the memory of a rule, whatever the size of the data set
REMEMBERED_DOCUMENTS = 1_000_000  # by `drop_duplicates` in a stream

Rule = Callable[[Any], np.ndarray]


class QualityFilter:
    """Keep the documents that no rule rejects, and say why the others went.

    By default rejects blank rows and those shorter than `min_chars` once stripped. The other rules
    are off until named: `drop_headings`, `min_words`, `min_letter_ratio`, `drop_repetition`,
    `drop_duplicates`. `rules()` gives them as a dict from reason to function, in the order asked.

    >>> kept, ledger = QualityFilter(min_chars=3)(pa.table({"text": ["", "ab", "abc"]}))
    >>> kept["text"].to_pylist(), ledger["filter", "documents"].dropped
    (['abc'], {'blank': 1, 'too_short': 1})
    """

    def __init__(
        self,
        min_chars: int = 40,
        *,
        drop_headings: bool = False,
        min_words: int | None = None,
        min_letter_ratio: float | None = None,
        drop_repetition: bool = False,
        drop_duplicates: bool = False,
        column: str = "text",
    ) -> None:
        self.min_chars = _checked("min_chars", min_chars, 0, None)
        self.min_words = _checked("min_words", min_words, 0, None)
        self.min_letter_ratio = _checked("min_letter_ratio", min_letter_ratio, 0, 1)
        self.drop_headings = drop_headings
        self.drop_repetition = drop_repetition
        self.drop_duplicates = drop_duplicates
        self.column = column

    def rules(self, max_documents: int | None = None) -> dict[str, Rule]:
        """The rules that are on; `duplicate` starts anew and remembers `max_documents`, or all."""
        chosen: dict[str, Rule] = {"blank": rules.blank}
        if self.drop_headings:
            chosen["heading"] = rules.heading
        if self.min_chars:
            chosen["too_short"] = partial(rules.too_short, min_chars=self.min_chars)
        if self.min_words is not None:
            chosen["too_few_words"] = partial(rules.too_few_words, min_words=self.min_words)
        if self.min_letter_ratio is not None:
            chosen["low_letter_ratio"] = partial(
                rules.low_letter_ratio, min_letter_ratio=self.min_letter_ratio
            )
        if self.drop_repetition:
            chosen["repetition"] = rules.repetition
        if self.drop_duplicates:
            chosen["duplicate"] = rules.Duplicates(max_documents)
        return chosen

    def __call__(self, documents: Any) -> tuple[Any, Ledger]:
        """Filter a `datasets.Dataset` or an Arrow table; returns the same kind, and the ledger.

        Raises KeyError naming the columns there are, TypeError or ValueError naming the row that is
        not text.
        """
        if hasattr(documents, "with_format"):
            return self._filter_dataset(documents)
        if not isinstance(documents, pa.Table):
            raise TypeError(
                "filter a datasets.Dataset or an Arrow table with a column "
                f"{self.column!r}, not a {type(documents).__name__}"
            )
        parts = list(self._filtered([documents], self.rules()))
        kept = pa.concat_tables([table for table, _ in parts])
        return kept, sum((ledger for _, ledger in parts), Ledger())

    def _filter_dataset(self, dataset: Any) -> tuple[Any, Ledger]:
        from datasets import Dataset
        from datasets.fingerprint import Hasher
        from datasets.table import InMemoryTable

        if isinstance(dataset, dict):
            raise TypeError(f"filter one split of the {type(dataset).__name__}: {list(dataset)}")
        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"a {type(dataset).__name__} may have no end; "
                "iterate over quality_filter.stream(dataset) instead"
            )
        kept, ledger = self(dataset.with_format("arrow")[:])
        # Without a fingerprint of ours `datasets` would hash every byte to make one.
        fingerprint = Hasher.hash([dataset._fingerprint, vars(self)])
        table = InMemoryTable(kept)
        info = dataset.info.copy()
        kept = Dataset(table, info=info, split=dataset.split, fingerprint=fingerprint)
        return kept.with_format(**dataset.format), ledger

    def stream(self, tables: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, Ledger]]:
        """Filter Arrow tables one after the other (an `IterableDataset` is read by 1,000 rows).

        Yields what was kept of each part of at most `ROWS_PER_SLICE` rows, and that part's ledger;
        they add up. Errors count rows from the first that was given here. `drop_duplicates`
        remembers the last `REMEMBERED_DOCUMENTS` distinct ones.
        """
        if isinstance(tables, pa.Table):
            tables = [tables]
        elif hasattr(tables, "with_format"):
            tables = tables.with_format("arrow").iter(batch_size=1000)
        yield from self._filtered(tables, self.rules(REMEMBERED_DOCUMENTS))

    def _filtered(
        self, tables: Iterable[pa.Table], chosen: dict[str, Rule]
    ) -> Iterator[tuple[pa.Table, Ledger]]:
        row = 0
        for table in tables:
            require_column(table, self.column)
            texts = text_column(table[self.column], self.column, first_row=row)
            # The rules get plain Arrow strings, whatever the column's own type is.
            position = table.column_names.index(self.column)
            table = table.set_column(position, self.column, texts)
            for start in range(0, max(1, table.num_rows), ROWS_PER_SLICE):
                part = table.slice(start, ROWS_PER_SLICE)
                try:
                    yield self._filter_slice(part, chosen)
                except pa.ArrowInvalid:
                    to_strings(part[self.column], self.column, row + start)  # names the row
                    raise
            row += table.num_rows

    def _filter_slice(self, table: pa.Table, chosen: dict[str, Rule]) -> tuple[pa.Table, Ledger]:
        verdicts, _ = judge(table[self.column], chosen)
        counts = np.bincount(verdicts, minlength=len(chosen) + 1).tolist()
        kept = table.filter(mask(verdicts == 0)) if counts[0] < table.num_rows else table
        dropped = dict(zip(chosen, counts[1:], strict=True))
        return kept, Ledger(
            Entry("filter", "documents", table.num_rows, counts[0], dropped=dropped)
        )

    def __repr__(self) -> str:
        """With the rules that are on: states of streams are compared by it."""
        chosen = {name: value for name, value in vars(self).items() if value not in (None, False)}
        return f"QualityFilter({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"


def judge(texts: pa.ChunkedArray, chosen: dict[str, Rule]) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Verdicts on all texts, and the texts that are kept.

    A verdict is 0 if no rule rejects the text, else the number of the first that does, from 1 on:
    shape (num_documents,), int8. A rule is asked only about what those before it let pass.

    >>> verdicts, kept = judge(text_column(["", "ab", "abc"]), QualityFilter(min_chars=3).rules())
    >>> verdicts.tolist(), kept.to_pylist()
    ([1, 2, 0], ['abc'])
    """
    verdicts, left = np.zeros(len(texts), np.int8), np.arange(len(texts))
    for number, rejects in enumerate(chosen.values(), start=1):
        rejected = rejects(texts)
        if rejected.any():
            verdicts[left[rejected]] = number
            texts, left = texts.filter(mask(~rejected)), left[~rejected]
    return verdicts, texts


def _checked(name: str, value: float | None, low: float, high: float | None) -> float | None:
    if value is None:
        return value
    allowed = f"in [{low}, {high}]" if high is not None else f"{low} or more"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number {allowed}, got {value!r}")
    if not low <= value <= (high if high is not None else value):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return value
