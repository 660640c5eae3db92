"""Text to training batches for language models, fast enough to teach from.

from llmpipe import open_source, load_tokenizer, QualityFilter, chunk

train = open_source("wikitext-2").load("train")
kept, ledger = QualityFilter(min_chars=40)(train)
tokens = load_tokenizer("gpt2").encode(kept["text"])
blocks, remainder = chunk(tokens.ids, block_size=128)
"""

import logging
from importlib import import_module
from typing import Any

# Names are imported when they are asked for: `import llmpipe` stays fast in every new process.
_HOMES = {
    "BlockDataset": "dataset",
    "BlockStream": "streaming",
    "BucketBatchSampler": "buckets",
    "ClassificationDataset": "classification",
    "ClassificationStream": "classification_stream",
    "Ledger": "ledger",
    "QualityFilter": "filters",
    "RollingBuffer": "blocks",
    "Share": "shares",
    "World": "sharding",
    "chunk": "blocks",
    "load_tokenizer": "tokenization",
    "open_source": "sources",
    "run_ranks": "launch",
}
__all__ = sorted(_HOMES)

logging.getLogger("llmpipe").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmpipe' has no attribute {name!r}")
    return getattr(import_module(f"llmpipe.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
