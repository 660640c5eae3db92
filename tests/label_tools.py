"""What the tests of labelled text share: reviews whose ids tell which they are."""

import json
import re

import numpy as np
from datasets import Dataset
from torch.utils.data import IterableDataset

from llmpipe import ClassificationStream
from llmpipe.columns import text_column
from llmpipe.tokenization.tokenizer import Tokens

FIRST, LAST = 101, 102


class NumberedTokenizer:
    """Words to their numbers, between two special tokens: "r7 x x" is review 7 with three ids."""

    name, digest, split_special_tokens = "numbered", "0" * 64, True
    vocab_size, pad_id = 100_000, 0
    padding_side = truncation_side = "right"

    def __init__(self):
        self.special_ids = {"[CLS]": FIRST, "[SEP]": LAST, "[PAD]": 0}

    def encode(self, texts, *, add_special_tokens=True):
        around = ([FIRST], [LAST]) if add_special_tokens else ([], [])
        rows = [
            [*around[0], *(int(re.sub(r"\D", "", word) or 0) + 1000 for word in words), *around[1]]
            for words in (text.split() for text in text_column(texts).to_pylist())
        ]
        ids = np.array([number for row in rows for number in row], np.uint32)
        return Tokens(ids, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def reviews(lengths, labels=None):
    """Reviews of so many words, one at least; labels sorted, as IMDB's are, unless given."""
    texts = [f"r{number}" + " x" * (length - 1) for number, length in enumerate(lengths)]
    if labels is None:
        labels = [int(number >= len(texts) / 2) for number in range(len(texts))]
    return {"text": texts, "label": labels}


def review_stream(data, max_length=8, **options):
    data = Dataset.from_dict(data) if isinstance(data, dict) else data
    return ClassificationStream(data, NumberedTokenizer(), max_length, **options)


class OneAfterAnother(IterableDataset):
    """The items of several streams, each with the number of its stream: one loader's for all."""

    def __init__(self, streams):
        self.streams = streams

    def __iter__(self):
        for number, stream in enumerate(self.streams):
            for item in stream:
                yield number, item


def numbers(item):
    """The numbers of the reviews in an item."""
    return (item["input_ids"].reshape(-1, item["input_ids"].shape[-1])[:, 1] - 1000).tolist()


def run_labelled(stream, num_items=None):
    """The first `num_items` items of a pass as plain lists, each with its state through JSON."""
    seen = []
    for item in stream:
        plain = {name: tensor.tolist() for name, tensor in item.items()}
        seen.append((numbers(item), plain, json.loads(json.dumps(stream.state_dict()))))
        if len(seen) == num_items:
            break
    return seen
