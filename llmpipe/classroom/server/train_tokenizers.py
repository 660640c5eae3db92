"""Trains the sample's two tokenizers.

    python -m llmpipe.classroom.server.train_tokenizers OUTPUT_FOLDER

They stand in for GPT-2's and DistilBERT's where there is no network, are laid out as those are, and
have 8,192 ids each instead of 50,257 and 30,522. The files in `llmpipe/sample/data/tokenizers` came
from here: training the byte-level BPE again gives the same file, training the WordPiece another one
each time, which is why the files are kept. Their `tokenizer_config.json` are written by hand, and
copied.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from llmpipe.classroom.server.mirror import TOKENIZERS
from llmpipe.sample import tables

VOCABULARY_SIZE = 8192
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def training_texts() -> Iterator[list[str]]:
    """The sample's stand-in for WikiText-2, then 4,096 of its reviews."""
    for corpus, num_rows in (("articles", 36_718), ("reviews", 4_096)):
        for table in tables(corpus, "train", num_rows):
            yield table["text"].to_pylist()


def train_gpt2(texts: Iterator[list[str]]) -> Tokenizer:
    """A byte-level BPE over all 256 bytes, with `<|endoftext|>` as its last id."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 1,  # a trainer would put the special token first
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def train_distilbert(texts: Iterator[list[str]]) -> Tokenizer:
    """A lower-casing WordPiece that writes `[CLS] text [SEP]`, with `[PAD]` as id 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=BERT_TOKENS,
        initial_alphabet=[chr(code) for code in range(ord("!"), ord("~") + 1)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, BERT_TOKENS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m llmpipe.classroom.server.train_tokenizers OUTPUT_FOLDER")
    train = {"gpt2": train_gpt2, "distilbert": train_distilbert}
    for kept in TOKENIZERS.values():
        tokenizer, folder = train[kept.name](training_texts()), Path(sys.argv[1], kept.name)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        config = (kept / "tokenizer_config.json").read_bytes()
        (folder / "tokenizer_config.json").write_bytes(config)


if __name__ == "__main__":
    main()
