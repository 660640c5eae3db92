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
_NAMES = {
    "ledger": ["Entry", "Ledger"],
    "metrics": ["card", "table", "usable_cores"],
    "sources.source": ["open_source"],
    "sources.parts": ["parts_of"],
    "filtering": ["QualityFilter"],
    "tokenization.loading": ["load_tokenizer"],
    "chunking.blocks": ["RollingBuffer", "chunk"],
    "chunking.dataset": ["BlockDataset"],
    "sharding.world": ["World"],
    "sharding.share": ["STRATEGIES", "Share"],
    "streaming.block_stream": ["BlockStream"],
    "streaming.reader": ["SourceError"],
    "streaming.state": ["read_state", "save_state"],
    "classification.dataset": ["BucketBatchSampler", "ClassificationDataset"],
    "classification.labels": ["batch_ledger", "label_counts", "padding_ratio", "truncation_ratio"],
    "classification.stream": ["ClassificationStream"],
    "launching.launch": ["RankError", "run_ranks"],
    "launching.start": ["start_fork_server"],
    "launching.distributed": ["UNEVEN", "EvenBatches", "meeting_point", "process_group"],
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)

logging.getLogger("llmpipe").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmpipe' has no attribute {name!r}")
    return getattr(import_module(f"llmpipe.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
