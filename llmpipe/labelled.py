"""Labelled text to rows of ids: tokenized a window at a time, cut to length, one label each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.label_account import LabelAccount
from llmpipe.padding import padded, truncated
from llmpipe.part_reading import slices
from llmpipe.recipe import check_count

# Tokenized at a time: a window of long documents must not fill the memory with its ids.
SLICE_BYTES = 4 * 2**20


class Rows(NamedTuple):
    """Reviews as ids: row r has `ids[starts[r]:][:lengths[r]]`, and had `full[r]` before the cut.

    `ids` is of the smallest unsigned type that holds the vocabulary; the others are int64, (D,).
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    full: np.ndarray
    labels: np.ndarray

    def take(self, rows: Any) -> Rows:
        """These rows, by their numbers or a slice; the ids stay where they are."""
        return Rows(self.ids, *(column[rows] for column in self[1:]))

    def packed(self) -> Rows:
        """The same rows with their own ids alone, in order."""
        starts = np.cumsum(self.lengths) - self.lengths
        places = np.arange(self.lengths.sum()) + np.repeat(self.starts - starts, self.lengths)
        return Rows(self.ids[places], starts, *(column.copy() for column in self[2:]))

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, one part after the other."""
        ids, starts, base = [], [], 0
        for part in parts:
            first, last = 0, 0
            if len(part.starts):
                first, last = part.starts.min(), (part.starts + part.lengths).max()
            ids.append(part.ids[first:last])
            starts.append(part.starts - first + base)
            base += last - first
        columns = zip(*(part[2:] for part in parts), strict=True)
        return Rows(np.concatenate(ids), np.concatenate(starts), *map(np.concatenate, columns))


@dataclass(frozen=True)
class Encoding:
    """How one review becomes ids: a tokenizer, the control ids it puts around, a length.

    `num_control` of `control` ids come with every review, `num_last` of them behind it.
    """

    tokenizer: Any
    max_length: int
    num_control: int
    num_last: int
    dtype: type
    pad_id: int

    @classmethod
    def of(cls, tokenizer: Any, max_length: int) -> Encoding:
        """Raises TypeError or ValueError if `max_length` leaves no place for text.

        Which ids the tokenizer puts around a text is seen on a probe.
        """
        check_count("max_length", max_length, 1)
        whole = tokenizer.encode(["a"]).ids.tolist()
        text = tokenizer.encode(["a"], add_special_tokens=False).ids.tolist()
        num_control = len(whole) - len(text)
        found = [n for n in range(num_control + 1) if whole[n : n + len(text)] == text]
        if not found:
            raise ValueError(
                f"{tokenizer.name} does not put its control ids around a text alone: 'a' gives "
                f"{whole}, without them {text}"
            )
        first = found[0]
        if max_length <= num_control:
            names = {number: name for name, number in tokenizer.control_ids.items()}
            around = [*whole[:first], *whole[first + len(text) :]]
            named = " and ".join(names.get(number, str(number)) for number in around)
            raise ValueError(
                f"max_length must be {num_control + 1} or more, got {max_length}: {named} take "
                f"{num_control} places, and a review needs one for its text"
            )
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        pad_id = next(pad for pad in pads if pad is not None)
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        return cls(tokenizer, max_length, num_control, num_control - first, dtype, pad_id)

    def rows(self, texts: pa.ChunkedArray, labels: pa.ChunkedArray) -> Rows:
        """The rows of one window of checked columns."""
        parts = []
        for start, stop in slices(texts, SLICE_BYTES):
            ids, offsets = self.tokenizer.encode(texts.slice(start, stop - start))
            full = np.diff(offsets)
            ids, offsets = truncated(ids, offsets, self.max_length, self.num_last)
            starts, lengths = offsets[:-1], np.diff(offsets)
            own = labels.slice(start, stop - start).to_numpy()
            parts.append(Rows(ids.astype(self.dtype), starts, lengths, full, own))
        return parts[0] if len(parts) == 1 else Rows.join(parts) if parts else self.no_rows

    @property
    def no_rows(self) -> Rows:
        return Rows(np.zeros(0, self.dtype), *np.zeros((4, 0), np.int64))

    def account(self, rows: Rows, padding: int = 0) -> LabelAccount:
        return LabelAccount.of(rows.labels, rows.full, rows.lengths, self.num_control, padding)

    def padded(self, rows: Rows, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of the rows, one after the other, each on so many places."""
        return padded(rows.ids, rows.starts, rows.lengths, widths, self.pad_id)
