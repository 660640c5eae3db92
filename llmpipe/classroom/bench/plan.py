"""What a lab's bench is made of: its ways of doing the same work, a watch, what they must share."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SETTLE_BYTES = 256 * 2**20


class Watch:
    """Seconds by stage: `lap(stage)` ends a stage that began with the last lap, or `start()`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


def settle() -> None:
    """Before a clock starts: collect the garbage of the imports, and have memory at hand.

    Else all of their objects are looked through at some moment of the measurement. And a page that
    a virtual machine has not used for long can cost it twenty times what the next use costs: take
    some memory and give it back, so that no way pays for the machine's.
    """
    gc.collect()
    np.ones(SETTLE_BYTES, np.uint8)


def count_ids(loader: Any, watch: Watch) -> int:
    """How many ids are in one epoch's batches; laps after the first batch and after the last."""
    num_ids = 0
    for index, batch in enumerate(loader):
        num_ids += batch["input_ids"].numel()
        if index == 0:
            watch.lap("first batch")
    watch.lap("the rest")
    return num_ids


def gather(loader: Any) -> np.ndarray:
    """The blocks of one more epoch, (num_blocks, block_size): keeping them is not in the clock."""
    batches = [batch["input_ids"].numpy() for batch in loader]
    return np.concatenate(batches).astype(np.uint32)


def gather_labelled(loader: Any) -> dict[str, np.ndarray]:
    """What one more epoch of batches of one width holds, out of the clock, and how it was batched.

    `sizes` (num_batches,) of the batches; `ids` and `mask` (num_rows, T), `labels` (num_rows,).
    """
    batches = list(loader)

    def column(name: str) -> np.ndarray:
        return np.concatenate([batch[name].numpy() for batch in batches])

    return {
        "sizes": np.array([len(batch["labels"]) for batch in batches]),
        "ids": column("input_ids").astype(np.uint32),
        "mask": column("attention_mask").astype(np.uint8),
        "labels": column("labels"),
    }


@dataclass(frozen=True)
class Once:
    """What a bench measures once, after its ways; `name` is its key in the report.

    `measure(tokenizer, num_rows, say)` gives what `notes` says in words and `draw(axes, found)`
    draws; `num_rows` is None where the user has set no limit.
    """

    name: str
    measure: Callable[..., dict]
    notes: Callable[[dict], list[str]]
    draw: Callable[[Any, dict], None]


@dataclass(frozen=True)
class Bench:
    """A lab's pipeline in several ways: functions of `settings` and a `Watch`, "classic" first.

    `stages` are laps in the clock, `beside` laps that are reported but are not in it. `compare`
    takes the results of all ways, by way, and returns what is the same and what is not; `notes`
    says it in words. `labels` are what a table calls the ways.
    """

    title: str
    dataset: str
    tokenizer: str
    settings: Mapping[str, int]
    stages: tuple[str, ...]
    ways: Mapping[str, Callable[..., dict]]
    compare: Callable[..., dict]
    notes: Callable[[dict], list[str]]
    beside: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    once: Once | None = None

    def label(self, way: str) -> str:
        return self.labels.get(way, way)


def ratio_key(way: str) -> str:
    """Under which name a report has how many times as fast as the classic way another one is.

    >>> ratio_key("llmpipe"), ratio_key("blocks")
    ('ratio', 'blocks_ratio')
    """
    return "ratio" if way == "llmpipe" else f"{way}_ratio"
