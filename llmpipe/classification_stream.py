"""Labelled text in, padded batches out: constant memory, mixed labels, resumable at any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmpipe.columns import require_column
from llmpipe.dealt_stream import DealtStream
from llmpipe.label_account import LabelAccount
from llmpipe.labelled import Encoding
from llmpipe.labelled_pass import LabelledPass
from llmpipe.labels import HINT, known_num_labels, label_column
from llmpipe.lanes import PER_PART, Lanes, Piece
from llmpipe.ledger import Ledger
from llmpipe.part_reading import PartReader, whole_text
from llmpipe.parts import Parts
from llmpipe.recipe import check_count, opened


@dataclass(frozen=True)
class LabelledRecipe:
    """What a stream does to every row of `parts`; `made_with` tells it from others in a state."""

    parts: Parts
    columns: tuple[str, str]
    num_labels: int | None
    encoding: Encoding
    made_with: Mapping[str, Any]

    def reader(self, lanes: Lanes, rows_done: Callable[[], int]) -> PartReader:
        text, label = self.columns
        checks = {text: whole_text, label: partial(label_column, num_labels=self.num_labels)}
        return PartReader(self.parts, lanes, checks, rows_done, HINT)


class ClassificationStream(DealtStream):
    """Padded batches of labelled text, made while it is read.

    With `batch_size=8` items are whole batches for `DataLoader(stream, batch_size=None)`: dicts of
    int64 tensors, `input_ids` and `attention_mask` of shape (8, T) and `labels` of (8,); the last
    may be smaller. Without it they are single rows, of shapes (T,), (T,) and (), for
    `DataLoader(stream, batch_size=8)` and for `Trainer`. Ids are those of `transformers` with
    truncation: `[CLS]` and `[SEP]` stay. Padding is 0 in the mask, and nothing else is.

    `padding` is "max_length" (T is `max_length`), "longest" (T is the longest of a batch; a single
    row is not padded, for `DataCollatorWithPadding`), or "buckets": the longest again, but reviews
    of about a thousand are sorted by length before they are cut into batches, so that little is
    padding.

    `documents`, `split`, `num_rows`, `shuffle`, `seed`, `rank` and `world_size` are as in
    `BlockStream`, and so are states, epochs, and what is to be known about several processes. On
    data sorted by label a consumer must not read one part after the other: up to `mix` parts, from
    all over the source, are open at a time, and rows are taken from them in turn. `mix=1` keeps the
    source's order. A source of a single part cannot be mixed; a RuntimeWarning says so if the first
    thousand rows have one label.

    `num_labels` is the number of classes; where a data set of `datasets` has a `ClassLabel` it is
    known. `ledger` counts reviews by label, those cut, and ids cut off and added: see
    `llmpipe.label_account` for counts and ratios.

    Raises TypeError or ValueError for options out of range, and while it is read KeyError naming
    the columns there are, TypeError or ValueError naming a row whose text or label is none, and
    `llmpipe.part_reading.SourceError` where the source fails.
    """

    counts = LabelAccount

    def __init__(
        self,
        documents: Any,
        tokenizer: Any,
        max_length: int = 256,
        *,
        split: str = "train",
        num_rows: int | None = None,
        text_column: str = "text",
        label_column: str = "label",
        num_labels: int | None = None,
        padding: str = "max_length",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        mix: int = 8,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_count("mix", mix, 1)
        if mix > PER_PART:
            raise ValueError(f"mix must be {PER_PART} or less, got {mix}")
        if num_labels is not None:
            check_count("num_labels", num_labels, 1)
        if padding not in ("max_length", "longest", "buckets"):
            raise ValueError(
                f"padding must be 'max_length', 'longest' or 'buckets', got {padding!r}"
            )
        if padding == "buckets" and batch_size is None:
            raise ValueError("padding='buckets' sorts rows into batches: give a batch_size")
        encoding = Encoding.of(tokenizer, max_length)
        parts, made_with = opened(documents, split, num_rows, tokenizer)
        columns = (text_column, label_column)
        for column in columns:
            if hasattr(documents, "column_names"):
                require_column(documents, column, HINT)
        made_with |= {
            "columns": list(columns),
            "max_length": max_length,
            "mix": mix,
            "buckets": f"of {batch_size}" if padding == "buckets" else None,
        }
        num_labels = num_labels or known_num_labels(documents, label_column)
        recipe = LabelledRecipe(parts, columns, num_labels, encoding, made_with)
        self.padding = padding
        dealt = {"shuffle": shuffle, "seed": seed, "rank": rank, "world_size": world_size}
        super().__init__(recipe, batch_size=batch_size, num_piles=mix, **dealt)

    def _pass(self, lanes: Lanes, pieces: list[Piece], done: LabelAccount) -> LabelledPass:
        options = {"batch_size": self.batch_size, "padding": self.padding}
        return LabelledPass(self.recipe, lanes, pieces, done, **options)

    def _ledger(self, done: LabelAccount) -> Ledger:
        return done.ledger()
