"""What a lab's bench is made of: its ways of doing the same work, a watch, what they must share."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

SETTLE_BYTES = 256 * 2**20
EPOCH = ("first batch", "the rest")  # laps of `count_ids`
LABELLED = {"ids": "input_ids", "mask": "attention_mask", "labels": "labels"}  # for `gather`


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


def loaded(load: Callable[[str], Any], tokenizer_folder: str, watch: Watch) -> Any:
    """The tokenizer, its lap, and a clock that has just started.

    Before that, collect the garbage of the imports, and have memory at hand. Else all of their
    objects are looked through at some moment of the measurement. And a page that a virtual machine
    has not used for long can cost it twenty times what the next use costs: take some memory and
    give it back, so that no way pays for the machine's.
    """
    watch.start()
    tokenizer = load(tokenizer_folder)
    watch.lap("tokenizer")
    gc.collect()
    np.ones(SETTLE_BYTES, np.uint8)
    watch.start()
    return tokenizer


def count_ids(loader: Any, watch: Watch) -> int:
    """How many ids are in one epoch's batches; laps after the first batch and after the last."""
    num_ids = 0
    for index, batch in enumerate(loader):
        num_ids += batch["input_ids"].numel()
        if index == 0:
            watch.lap(EPOCH[0])
    watch.lap(EPOCH[1])
    return num_ids


def gather(loader: Any, **columns: str) -> dict[str, np.ndarray]:
    """Columns of the batches of one more epoch, each in a row; keeping them is not in the clock.

    `gather(loader, blocks="input_ids")` gives `blocks` (num_rows, T), and `sizes` (num_batches,).
    """
    batches = list(loader)
    found = {"sizes": np.array([len(batch["input_ids"]) for batch in batches])}
    for name, column in columns.items():
        rows = [batch[column].numpy() for batch in batches]
        found[name] = np.concatenate(rows, dtype=np.uint32, casting="unsafe")
    return found


def all_equal(results: Mapping[str, dict], *names: str) -> bool:
    """Whether the arrays under each of `names` are the same in the results of all ways."""
    first, *others = results.values()
    return all(np.array_equal(first[name], each[name]) for each in others for name in names)


def rates(results: Mapping[str, dict], array: str, unit: str) -> dict[str, float]:
    """By way, how many of what its `array` holds there were a second of its laps by `count_ids`."""
    return {
        f"{way}_{unit}_per_s": size / sum(result["seconds"][lap] for lap in EPOCH)
        for way, result in results.items()
        for size in [result[array].size]
    }


def classic(lab: str) -> Callable[..., dict]:
    """The way of that lab in `classic`, which is imported only where it runs: with all it needs."""

    def run(*arguments: Any, **settings: Any) -> dict:
        way = getattr(import_module("llmpipe.classroom.bench.classic"), lab)
        return way(*arguments, **settings)

    return run


@dataclass(frozen=True)
class Bench:
    """A lab's pipeline in several ways: functions of `settings` and a `Watch`, "classic" first.

    `stages` are laps in the clock, `beside` laps that are reported but are not in it. `compare`
    takes the results of all ways, by way, and returns what is the same and what is not; `notes`
    says it in words. `labels` are what a table calls the ways.

    `once` are modules, and what each measures once, after the ways, is in the report under its
    name: `measure(tokenizer, num_rows, say)` gives what `notes` says in words and, for the first of
    them, `draw(axes, found)` draws; `num_rows` is None where the user has set no limit.
    """

    title: str
    dataset: str
    tokenizer: str
    settings: Mapping[str, int]
    stages: tuple[str, ...]
    ways: Mapping[str, Callable[..., dict]]
    compare: Callable[..., dict]
    notes: Callable[[dict], list[str]]
    beside: tuple[str, ...] = ("tokenizer",)
    labels: Mapping[str, str] = field(default_factory=dict)
    once: tuple[ModuleType, ...] = ()

    def label(self, way: str) -> str:
        return self.labels.get(way, way)

    def each(self, words: Callable[[str], str]) -> str:
        """All ways in a row, each with its own words."""
        return ", ".join(f"{self.label(way)} {words(way)}" for way in self.ways)


def name_of(module: ModuleType) -> str:
    """Under which name a report has what a module of `once` found.

    >>> from llmpipe.classroom.bench import memory
    >>> name_of(memory)
    'memory'
    """
    return module.__name__.rpartition(".")[2]


def ratio_key(way: str) -> str:
    """Under which name a report has how many times as fast as the classic way another one is.

    >>> ratio_key("llmpipe"), ratio_key("blocks")
    ('ratio', 'blocks_ratio')
    """
    return "ratio" if way == "llmpipe" else f"{way}_ratio"
