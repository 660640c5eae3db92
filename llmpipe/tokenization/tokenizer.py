"""Text to token ids: one contract, a fast backend where one is exact, the reference otherwise.

Ids of many documents stand in one row, with offsets to tell the documents apart:

    load_tokenizer("gpt2").encode(["Hello world", ""])    ids [15496, 995], offsets [0, 2, 2]

A special token that is written in a document, such as `<|endoftext|>`, stays text.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmpipe.arguments import check_count
from llmpipe.columns import text_column, to_strings
from llmpipe.ledger import Entry, Ledger
from llmpipe.tokenization.backends import TransformersBackend, choose_backend

DOCUMENTS_PER_CALL = 4096  # bounds the Python strings alive at once
PARALLEL_BYTES = 32 * 2**20


class Tokens(NamedTuple):
    """Ids of many documents in one row: `ids` (N,) uint32, `offsets` (D + 1,) int64.

    Document d has `ids[offsets[d]:offsets[d + 1]]`; `lengths` (D,) are the numbers of ids.
    """

    ids: np.ndarray
    offsets: np.ndarray

    @property
    def num_documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def ledger(self) -> Ledger:
        documents, ids = self.num_documents, len(self.ids)
        return Ledger(
            Entry("tokenize", "documents", documents, documents),
            Entry("tokenize", "ids", 0, ids, added={"text": ids}),
        )


class Tokenizer:
    """What `load_tokenizer` gives. Can be pickled: a process that receives it skips the checks.

    `name`, `origin` (hub, hub cache, mirror, sample, files, object), `folder` (None for an object),
    `backend_name`, `vocab_size`, `special_ids` (special token to id), `eos_token_id` and
    `pad_token_id` (None where there is none), `padding_side` and `truncation_side`.

    `contents` are those of a `tokenizer.json`, on which alone a text's ids depend. `digest` tells
    it from others in a saved state, by default that of `contents`. Raises ValueError for contents
    that `tokenizers` cannot load, or that give ids beyond the vocabulary.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        contents: dict,
        *,
        split_special_tokens: bool = True,
        folder: Path | None = None,
        digest: str | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
    ) -> None:
        self.name, self.origin, self.folder = name, origin, folder
        self.split_special_tokens = split_special_tokens
        self.padding_side, self.truncation_side = padding_side, truncation_side
        added = contents["added_tokens"]
        self.special_ids = {t["content"]: t["id"] for t in added if t.get("special")}
        ids = [*vocabulary_of(contents).values(), *(token["id"] for token in added)]
        self.vocab_size = 1 + max(ids, default=-1)
        whole = json.dumps(contents, ensure_ascii=False)
        self.digest = digest or hashlib.sha256(whole.encode()).hexdigest()
        self.reference = TransformersBackend(whole, split_special_tokens)
        self.backend = choose_backend(contents, self.reference)
        self.backend_name = self.backend.name
        self.eos_token_id = self.check_id("eos_token_id", eos_token_id)
        self.pad_token_id = self.check_id("pad_token_id", pad_token_id)
        for number in self.encode("").ids:  # what stands around every text
            self.check_id("an id that it puts around texts", int(number))

    def check_id(self, what: str, number: int | None) -> int | None:
        """`number`, if it is None or one of the vocabulary; else TypeError or ValueError."""
        if number is not None:
            check_count(f"{self.name}: {what}", number, 0, self.vocab_size)
        return number

    def encode(
        self, texts: Any, *, add_special_tokens: bool = True, parallel: bool | None = None
    ) -> Tokens:
        """Tokenize a column, an Arrow array, a list of strings, or one string.

        `add_special_tokens` is that of `transformers`: [CLS] and [SEP] around a text for
        DistilBERT, nothing for GPT-2. `parallel` uses all cores. By default a column of less than
        `PARALLEL_BYTES` does not, since waking the threads costs more than they save, nor does a
        process that another one started, where the ranks share the cores already.

        Raises TypeError or ValueError naming the row that is not text.
        """
        column = text_column(texts)
        if parallel is None and column.nbytes < PARALLEL_BYTES:
            parallel = False
        ids, lengths = [np.zeros(0, np.uint32)], [np.zeros(1, np.int64)]
        for start in range(0, len(column), DOCUMENTS_PER_CALL):
            documents = column.slice(start, DOCUMENTS_PER_CALL)
            strings = to_strings(documents, first_row=start)
            inexact = self.backend.inexact_on(documents)
            backend = self.reference if inexact else self.backend
            some, offsets = backend.encode(strings, add_special_tokens, parallel)
            if len(offsets) != len(strings) + 1:
                raise RuntimeError(
                    f"{backend.name}: {len(strings)} texts in, {len(offsets) - 1} out"
                )
            ids.append(some)
            lengths.append(np.diff(offsets))
        if len(ids) == 2:  # one call, nothing to join
            return Tokens(ids[1], np.asarray(offsets, np.int64))
        return Tokens(np.concatenate(ids), np.cumsum(np.concatenate(lengths)))

    def decode(self, ids: Any) -> str:
        """The text of one row of ids, special tokens written out."""
        return self.reference.tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    @property
    def pad_id(self) -> int:
        """The id to pad with; any would do, since padding is masked by its place."""
        pads = (self.pad_token_id, self.eos_token_id, 0)
        return next(pad for pad in pads if pad is not None)

    def to_transformers(self) -> Any:
        """The same tokenizer as one of `transformers`."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        options = {"split_special_tokens": self.split_special_tokens}
        if self.folder:
            theirs = AutoTokenizer.from_pretrained(str(self.folder), **options)
        else:
            theirs = PreTrainedTokenizerFast(
                tokenizer_object=self.reference.tokenizer,
                padding_side=self.padding_side,
                truncation_side=self.truncation_side,
                **options,
            )
        for which in ("eos_token", "pad_token"):  # which an early file leaves to the model's own
            number = getattr(self, f"{which}_id")
            if number is not None:
                setattr(theirs, which, theirs.convert_ids_to_tokens(number))
        return theirs

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, origin={self.origin!r}, backend={self.backend_name!r})"


def vocabulary_of(contents: dict) -> dict[str, int]:
    vocabulary = contents["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {token: index for index, (token, _) in enumerate(vocabulary)}  # Unigram: (token, score)


def vocabulary_digest(contents: dict) -> str:
    """sha256 of vocabulary by id and merges by rank: equal for files that differ only in form."""
    vocabulary = sorted(vocabulary_of(contents).items(), key=lambda item: (item[1], item[0]))
    merges = contents["model"].get("merges") or []
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    canonical = json.dumps([vocabulary, merges], ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
