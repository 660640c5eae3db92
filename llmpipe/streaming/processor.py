"""What a stream does to every row, checked once: the same for all consumers and in all epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from llmpipe.arguments import check_block_size, check_count
from llmpipe.filtering import QualityFilter, Rule
from llmpipe.sources.parts import Parts, parts_of
from llmpipe.sources.source import Source
from llmpipe.streaming.state import Account


@dataclass(frozen=True)
class Recipe:
    """Rows of `parts` to ids; `made_with` tells it from others, in plain values for a state."""

    parts: Parts
    column: str
    rules: dict[str, Rule]
    tokenizer: Any
    separator: int | None
    block_size: int
    made_with: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        documents: Any,
        tokenizer: Any,
        block_size: int,
        *,
        split: str,
        num_rows: int | None,
        column: str,
        quality: QualityFilter | None,
        separator: int | None,
    ) -> Recipe:
        """The recipe of these options of a `BlockStream`.

        Raises TypeError or ValueError naming the one that is out of range, and what opening the
        documents raises.
        """
        check_block_size(block_size)
        if separator is not None:
            check_count("separator", separator, 0)
            if separator >= tokenizer.vocab_size:
                raise ValueError(
                    f"separator must be an id in [0, {tokenizer.vocab_size}), got {separator}"
                )
        rules = _rules(quality, column)
        parts, made_with = opened(documents, split, num_rows, tokenizer)
        made_with = {
            **made_with,
            "column": column,
            "filter": repr(quality),
            "separator": separator,
            "block_size": int(block_size),
        }
        return cls(parts, column, rules, tokenizer, separator, int(block_size), made_with)

    def encode(self, texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the documents in a row, each with its separator, and offsets (D + 1,)."""
        ids, offsets = self.tokenizer.encode(texts)
        if self.separator is None:
            return ids, offsets
        return np.insert(ids, offsets[1:], self.separator), offsets + np.arange(len(offsets))

    def account(self, verdicts: np.ndarray) -> Account:
        """Of rows that are done with; their ids are counted elsewhere."""
        kept, *dropped = np.bincount(verdicts, minlength=len(self.rules) + 1).tolist()
        reasons = dict(zip(self.rules, dropped, strict=True))
        return Account(len(verdicts), reasons, documents=kept)

    @property
    def pad_id(self) -> int:
        """The id to pad with; any would do, since padding is masked by its place."""
        pads = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(pad for pad in pads if pad is not None)


def opened(
    documents: Any, split: str, num_rows: int | None, tokenizer: Any
) -> tuple[Parts, dict[str, Any]]:
    """The parts of a source or of a data set, and what tells them and the tokenizer from others."""
    if num_rows is not None:
        check_count("num_rows", num_rows, 0)
    is_source = isinstance(documents, Source)
    parts = documents.parts(split, num_rows) if is_source else parts_of(documents, num_rows)
    return parts, {
        "source": f"{documents}, {split}" if is_source else type(documents).__name__,
        "data": f"{len(parts.weights)} parts, {parts.identity}",
        "num_rows": num_rows,
        "tokenizer": f"{tokenizer.name}, digest {tokenizer.digest[:12]}",
        "split_special_tokens": tokenizer.split_special_tokens,
    }


def _rules(quality: QualityFilter | None, column: str) -> dict[str, Rule]:
    if quality is None:
        return {}
    if not isinstance(quality, QualityFilter):
        raise TypeError(f"filter must be a QualityFilter, got {quality!r}")
    if quality.text_column != column:
        raise ValueError(f"the filter reads column {quality.text_column!r}, the stream {column!r}")
    if quality.drop_duplicates:
        raise ValueError(
            "a consumer of a stream cannot see what the others read: drop duplicates before, with "
            "QualityFilter(drop_duplicates=True) on the whole data set"
        )
    return quality.rules()
