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
    "BlockDataset": "chunking.dataset",
    "BlockStream": "streaming.block_stream",
    "BucketBatchSampler": "classification.dataset",
    "ClassificationDataset": "classification.dataset",
    "ClassificationStream": "classification.stream",
    "Ledger": "ledger",
    "QualityFilter": "filtering",
    "RollingBuffer": "chunking.blocks",
    "Share": "sharding.share",
    "World": "sharding.world",
    "chunk": "chunking.blocks",
    "load_tokenizer": "tokenization.tokenizer",
    "open_source": "sources.source",
    "run_ranks": "launching.launch",
}
__all__ = sorted(_HOMES)

logging.getLogger("llmpipe").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmpipe' has no attribute {name!r}")
    return getattr(import_module(f"llmpipe.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
