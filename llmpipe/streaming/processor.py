"""What a stream does to every row of a source: checked once, the same for all its consumers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import llmpipe
from llmpipe.arguments import check_count
from llmpipe.columns import Check, NoColumnError, Parts, is_source
from llmpipe.filtering import QualityFilter, Rule
from llmpipe.sources.parts import parts_of


@dataclass(frozen=True)
class Processor:
    """Rows of `parts` to ids: which columns are read and what they must pass (`checks`), which
    `rules` reject a text, and which `separator` follows it.

    `fingerprint` tells it from other processors, in plain values for a state; `hint` says in errors
    what to do where a column is not there.
    """

    parts: Parts
    checks: Mapping[str, Check]
    tokenizer: Any
    rules: Mapping[str, Rule]
    separator: int | None
    hint: str
    fingerprint: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        documents: Any,
        tokenizer: Any,
        checks: Mapping[str, Check],
        *,
        split: str,
        num_rows: int | None,
        quality: QualityFilter | None = None,
        separator: int | None = None,
        hint: str = "",
        **settings: Any,
    ) -> Processor:
        """The processor of these options of a stream; `settings` go into its fingerprint too.

        `tokenizer` is what `load_tokenizer` gives, or takes. Raises TypeError or ValueError
        naming the option that is out of range, and what opening the documents raises.
        """
        tokenizer = llmpipe.load_tokenizer(tokenizer)  # by its public name: a part of its own
        if num_rows is not None:
            check_count("num_rows", num_rows)
        if separator is not None:
            check_count("separator", separator, 0, tokenizer.vocab_size)
            if tokenizer.encode([""]).ids[-1:].tolist() == [separator]:
                warnings.warn(
                    f"{tokenizer.name} puts the id {separator} behind every text already: with "
                    f"separator={separator} it stands there twice; leave the separator out",
                    RuntimeWarning,
                    stacklevel=4,
                )
        try:
            parts = parts_of(documents, num_rows, split, checks)
        except NoColumnError as error:
            raise KeyError(f"{error.args[0]}{hint}") from None
        kind = type(documents).__name__
        fingerprint = {
            "source": f"{documents}, {split}" if is_source(documents) else kind,
            "data": f"{len(parts.weights)} parts, {parts.identity}",
            "num_rows": num_rows,
            "columns": list(checks),
            "tokenizer": f"{tokenizer.name}, digest {tokenizer.digest[:12]}",
            "split_special_tokens": tokenizer.split_special_tokens,
            "filter": repr(quality),
            "separator": separator,
            **settings,
        }
        rules = _rules(quality, next(iter(checks)))
        return cls(parts, checks, tokenizer, rules, separator, hint, fingerprint)

    def encode(self, texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the documents in a row, each with its separator, and offsets (D + 1,)."""
        ids, offsets = self.tokenizer.encode(texts)
        if self.separator is None:
            return ids, offsets
        return np.insert(ids, offsets[1:], self.separator), offsets + np.arange(len(offsets))


def _rules(quality: QualityFilter | None, text_column: str) -> dict[str, Rule]:
    if quality is None:
        return {}
    if not isinstance(quality, QualityFilter):
        raise TypeError(f"filter must be a QualityFilter, got {quality!r}")
    if quality.text_column != text_column:
        raise ValueError(
            f"the filter reads column {quality.text_column!r}, the stream {text_column!r}"
        )
    if quality.drop_duplicates:
        raise ValueError(
            "a consumer of a stream cannot see what the others read: drop duplicates before, with "
            "QualityFilter(drop_duplicates=True) on the whole data set"
        )
    return quality.rules()
