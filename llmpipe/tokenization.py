"""Text to token ids: one contract, a fast backend where one is exact, the reference otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.backends import BACKENDS, Backend, TransformersBackend, choose_backend
from llmpipe.columns import text_column, to_strings
from llmpipe.ledger import Entry, Ledger
from llmpipe.origins import SAMPLE_STANDS_FOR, locate
from llmpipe.tokenizer_files import read_tokenizer_folder, vocabulary_digest, vocabulary_of

DOCUMENTS_PER_CALL = 4096  # bounds the Python strings alive at once
PARALLEL_BYTES = 32 * 2**20

# Vocabulary and merges of the labs' tokenizers, whichever files they came in.
KNOWN_DIGESTS = {
    "openai-community/gpt2": "6b81dbd64442b650b767e6e6aa14045b56f3503a1341ba574de0ad9977262983",
    "distilbert/distilbert-base-uncased": (
        "f511ff2a44f4d7976024ac2f6359a9c380da1db6d106492373c07edbbf5149fc"
    ),
}
SHORT_NAMES = {
    "gpt2": "openai-community/gpt2",
    "distilbert": "distilbert/distilbert-base-uncased",
}


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

    `name`, `origin` (hub, hub cache, mirror, sample, files), `backend_name`, `vocab_size`,
    `digest` (of vocabulary and merges), `control_ids` (token to id), `eos_token_id` and
    `pad_token_id` (None where there is none).
    """

    def __init__(self, name: str, origin: str, folder: Path, split_special_tokens: bool) -> None:
        self.name, self.origin, self.folder = name, origin, Path(folder)
        self.split_special_tokens = split_special_tokens
        contents, config = read_tokenizer_folder(self.folder)
        self.digest = vocabulary_digest(contents)
        self.control_ids = {t["content"]: t["id"] for t in contents["added_tokens"]}
        self.vocab_size = 1 + max([*vocabulary_of(contents).values(), *self.control_ids.values()])
        self.eos_token_id = self._control_id(config.get("eos_token"))
        self.pad_token_id = self._control_id(config.get("pad_token"))
        if split_special_tokens:
            # Without them in the list, `<|endoftext|>` in a document is text like any other.
            contents["added_tokens"] = [t for t in contents["added_tokens"] if not t.get("special")]
        self._json = json.dumps(contents, ensure_ascii=False)
        self._backend: Backend | None = choose_backend(self._json, contents["model"].get("type"))
        self.backend_name = self._backend.name
        self._reference: Backend | None = None
        self._decoder: Any = None

    def _control_id(self, token: Any) -> int | None:
        token = token.get("content") if isinstance(token, dict) else token
        return self.control_ids.get(token)

    def encode(
        self, texts: Any, *, add_special_tokens: bool = True, parallel: bool | None = None
    ) -> Tokens:
        """Tokenize a column, an Arrow array, a list of strings, or one string.

        `add_special_tokens` is that of `transformers`: [CLS] and [SEP] around a text for
        DistilBERT, nothing for GPT-2. `parallel` uses all cores. By default a column of less than
        `PARALLEL_BYTES` does not, since waking the threads costs more than they save, nor does a
        process that another one started, where the ranks share the cores already.

        With GPT-2's, `encode(["Hello world", ""])` gives ids `[15496, 995]` and offsets
        `[0, 2, 2]`.

        Raises TypeError or ValueError naming the row that is not text.
        """
        column = text_column(texts)
        if parallel is None and column.nbytes < PARALLEL_BYTES:
            parallel = False
        ids, lengths = [np.zeros(0, np.uint32)], [np.zeros(1, np.int64)]
        for start in range(0, len(column), DOCUMENTS_PER_CALL):
            documents = column.slice(start, DOCUMENTS_PER_CALL)
            strings = to_strings(documents, first_row=start)
            backend = self._exact_for(documents)
            part, offsets = backend.encode(strings, add_special_tokens, parallel)
            if len(offsets) != len(strings) + 1:
                raise RuntimeError(
                    f"{backend.name}: {len(strings)} texts in, {len(offsets) - 1} out"
                )
            ids.append(part)
            lengths.append(np.diff(offsets))
        if len(ids) == 2:  # one call, nothing to join
            return Tokens(ids[1], np.asarray(offsets, np.int64))
        return Tokens(np.concatenate(ids), np.cumsum(np.concatenate(lengths)))

    def decode(self, ids: Any) -> str:
        """The text of one row of ids, control tokens written out."""
        from tokenizers import Tokenizer as Reference

        if self._decoder is None:
            self._decoder = Reference.from_file(str(self.folder / "tokenizer.json"))
        return self._decoder.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    def to_transformers(self) -> Any:
        """The same vocabulary as a tokenizer of `transformers`."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            self.folder, split_special_tokens=self.split_special_tokens
        )

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            self._backend = BACKENDS[self.backend_name](self._json)
        return self._backend

    def _exact_for(self, documents: pa.ChunkedArray) -> Backend:
        """The backend, or the reference if one of the documents has text the backend gets wrong."""
        if not self.backend.inexact_on(documents):
            return self.backend
        if self._reference is None:
            self._reference = TransformersBackend(self._json)
        return self._reference

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_backend": None, "_reference": None, "_decoder": None}

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, origin={self.origin!r}, backend={self.backend_name!r})"


def load_tokenizer(name: str | Path, *, split_special_tokens: bool = True) -> Tokenizer:
    """Load `gpt2`, `distilbert`, any `owner/name`, or a folder with a `tokenizer.json`.

    A control token written in a document, such as `<|endoftext|>`, stays text, so that nobody who
    writes text can end a document; `split_special_tokens=False` makes it the control id, as
    `transformers` does by default.

    Raises FileNotFoundError or ValueError naming the file that is missing or damaged. Code that a
    tokenizer brings along (`auto_map`) is refused, never run.
    """
    if not isinstance(name, (str, Path)) or not str(name):
        raise ValueError(f"name a tokenizer: {', '.join(SHORT_NAMES)}, owner/name or a folder")
    if name not in SHORT_NAMES and Path(name).is_dir():
        return Tokenizer(str(name), "files", Path(name).resolve(), split_special_tokens)
    repo_id = SHORT_NAMES.get(name, str(name))
    place = locate(repo_id, "model", ("tokenizer.json", "tokenizer_config.json"))
    tokenizer = Tokenizer(name, place.origin, place.folder, split_special_tokens)
    known = KNOWN_DIGESTS.get(repo_id)
    if known is None or tokenizer.digest == known or place.origin == "sample":
        return tokenizer
    sample_contents, _ = read_tokenizer_folder(SAMPLE_STANDS_FOR[repo_id])
    if tokenizer.digest == vocabulary_digest(sample_contents):
        tokenizer.origin = "sample"  # a hub or mirror that serves the sample
        return tokenizer
    raise ValueError(
        f"{place.folder / 'tokenizer.json'} is not the vocabulary of {repo_id} "
        f"(digest {tokenizer.digest[:12]}, expected {known[:12]}): it is damaged or another's; "
        "fetch it again"
    )
