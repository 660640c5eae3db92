"""Lab 4 measured: padded batches of labelled text, from a stream and from a data set in memory.

Every way runs in a process of its own, with a tokenizer that has seen no text before: nanotoken is
faster on words that it has met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from llmpipe.classroom.bench import classic
from llmpipe.classroom.bench.plan import Bench, Watch, count_ids, gather_labelled, settle
from llmpipe.classroom.bench.report import seconds, times

WAYS = ("classic", "llmpipe", "map_style")
ARRAYS = ("sizes", "ids", "mask", "labels")
PADDINGS = ("max_length", "longest", "buckets")


def _loaded(tokenizer_folder: str, watch: Any) -> Any:
    """The tokenizer, and a clock that has just started; imports and loading are not in it."""
    from llmpipe import load_tokenizer
    from llmpipe.classroom.bench.memory import import_all

    import_all()
    watch.start()
    tokenizer = load_tokenizer(tokenizer_folder)
    watch.lap("tokenizer")
    settle()
    watch.start()
    return tokenizer


def stream(file: str, tokenizer_folder: str, max_length: int, batch_size: int, watch: Any) -> dict:
    """What `classic.lab4` does, with a `ClassificationStream` in the order of the file.

    Returns what that returns. Its `counts` hold the account of the epoch too, and `paddings`: of
    each kind of padding samples/s and the ratio of it, by the tokenizer that has now seen the text.
    """
    from torch.utils.data import DataLoader

    from llmpipe import ClassificationStream, open_source
    from llmpipe.classification.labels import label_counts, padding_ratio, truncation_ratio

    def loader_of(padding: str) -> Any:
        options = {"padding": padding, "batch_size": batch_size, "mix": 1}
        reviews = ClassificationStream(open_source(file), tokenizer, max_length, **options)
        return DataLoader(reviews, batch_size=None)

    tokenizer = _loaded(tokenizer_folder, watch)
    loader = loader_of("max_length")
    epoch_ids = count_ids(loader, watch)
    ledger = loader.dataset.ledger.check()
    counts = {
        "epoch_ids": epoch_ids,
        "label_counts": {str(label): count for label, count in label_counts(ledger).items()},
        "truncation_ratio": truncation_ratio(ledger),
        "padding_ratio": padding_ratio(ledger),
        "paddings": {padding: _rate(partial(loader_of, padding)) for padding in PADDINGS},
    }
    return {**gather_labelled(loader), "counts": counts}


def _rate(new_loader: Callable[[], Any]) -> dict:
    from llmpipe.classification.labels import padding_ratio

    watch = Watch()
    loader = new_loader()
    num_samples = sum(len(batch["labels"]) for batch in loader)
    watch.lap("epoch")
    ratio = padding_ratio(loader.dataset.ledger)
    return {"samples_per_s": num_samples / watch.seconds["epoch"], "padding_ratio": ratio}


def map_style(
    file: str, tokenizer_folder: str, max_length: int, batch_size: int, watch: Any
) -> dict:
    """What `classic.lab4` does, with a `ClassificationDataset`; returns what that returns."""
    from torch.utils.data import DataLoader

    from llmpipe import ClassificationDataset, open_source

    tokenizer = _loaded(tokenizer_folder, watch)
    dataset = ClassificationDataset(open_source(file).load("train"), tokenizer, max_length)
    loader = DataLoader(dataset, batch_size, collate_fn=ClassificationDataset.collate)
    counts = {"epoch_ids": count_ids(loader, watch)}
    return {**gather_labelled(loader), "counts": counts}


def compare_lab4(results: Mapping[str, dict], **_: int) -> dict:
    """Whether all ways gave the same ids, masks and labels in batches of the same sizes.

    `counts_equal`: in the clock each gave as many ids as were compared, and the ledger's counts are
    those of the classic way's arrays. Each way's samples/s are those of its own laps.
    """
    old, new = results["classic"], results["llmpipe"]["counts"]
    labels, num_labels = np.unique(old["labels"], return_counts=True)
    counted = {str(label): int(n) for label, n in zip(labels, num_labels, strict=True)}
    same = {
        name: all(np.array_equal(results[way][name], old[name]) for way in WAYS) for name in ARRAYS
    }
    whole = all(results[way]["counts"]["epoch_ids"] == results[way]["ids"].size for way in WAYS)
    found = {
        "batches_equal": same["sizes"],
        "ids_equal": same["ids"],
        "masks_equal": same["mask"],
        "labels_equal": same["labels"],
        "counts_equal": whole
        and new["label_counts"] == counted
        and bool(np.isclose(new["padding_ratio"], 1 - old["mask"].mean())),
        "samples": len(old["labels"]),
        "batches": len(old["sizes"]),
        **{name: new[name] for name in ("label_counts", "truncation_ratio", "padding_ratio")},
        **{
            f"{padding}_{name}": value
            for padding, measured in new["paddings"].items()
            for name, value in measured.items()
        },
    }
    for way in WAYS:
        laps = results[way]["seconds"]
        rate = len(results[way]["labels"]) / (laps["first batch"] + laps["the rest"])
        found[f"{way}_samples_per_s"] = rate
    return found


def notes_lab4(report: dict) -> list[str]:
    labels = ", ".join(f"{count:,} of {label}" for label, count in report["label_counts"].items())
    same = (
        f"same ids, masks and labels in {report['batches']:,} batches, {report['samples']:,} "
        f"reviews: by label {labels}; {report['truncation_ratio']:.1%} cut, "
        f"{report['padding_ratio']:.1%} of the ids are padding"
    )
    if not all(equal for name, equal in report.items() if name.endswith("_equal")):
        same = "NOT THE SAME BATCHES: the times compare different work"
    rates = ", ".join(f"{BENCH.label(way)} {report[f'{way}_samples_per_s']:,.0f}" for way in WAYS)
    loading = ", ".join(
        f"{BENCH.label(way)} {seconds(report['tokenizer'][f'{way}_s'])}" for way in WAYS
    )
    paddings = ", ".join(
        f"{padding} {report[f'{padding}_samples_per_s']:,.0f} "
        f"({report[f'{padding}_padding_ratio']:.1%} padding)"
        for padding in PADDINGS
    )
    return [
        f"in the clock: from opening the file to the end of one epoch, batches of "
        f"({report['batch_size']}, {report['max_length']}), num_workers=0, each way in a process "
        f"of its own whose tokenizer has seen no text; not in it: imports, and loading the "
        f"tokenizer ({loading})",
        f"samples/s: {rates}; the stream {times(report['ratio'])} as fast as the classic way, the "
        f"data set {times(report['map_style_ratio'])}",
        same,
        f"the stream again, once its tokenizer has seen the text, samples/s: {paddings}",
    ]


BENCH = Bench(
    title="Lab 4: labelled text in padded batches",
    dataset="imdb",
    tokenizer="distilbert",
    settings={"max_length": 256, "batch_size": 8},
    stages=("first batch", "the rest"),
    ways={"classic": classic.lab4, "llmpipe": stream, "map_style": map_style},
    labels={"llmpipe": "stream", "map_style": "data set"},
    compare=compare_lab4,
    notes=notes_lab4,
    beside=("tokenizer",),
)
