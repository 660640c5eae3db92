"""Lab 4 measured: padded batches of labelled text, from a stream and from a data set in memory.

Every way runs in a process of its own, with a tokenizer that has seen no text before: nanotoken is
faster on words that it has met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmpipe.classroom.bench.memory import import_all
from llmpipe.classroom.bench.plan import (
    EPOCH,
    LABELLED,
    Bench,
    Watch,
    all_equal,
    classic,
    count_ids,
    gather,
    loaded,
    rates,
)
from llmpipe.classroom.bench.report import epoch_in_clock, same_work, times

PADDINGS = ("max_length", "longest", "buckets")


def stream(file: str, tokenizer_folder: str, max_length: int, batch_size: int, watch: Any) -> dict:
    """What `classic.lab4` does, with a `ClassificationStream` in the order of the file.

    Returns what that returns. Its `counts` hold those of the epoch's ledger too, and `paddings`: of
    each kind of padding samples/s and the ratio of it, by the tokenizer that has now seen the text.
    """
    from torch.utils.data import DataLoader

    from llmpipe import ClassificationStream, load_tokenizer, open_source
    from llmpipe.classification.labels import label_counts, padding_ratio, truncation_ratio

    def loader_of(padding: str) -> Any:
        options = {"padding": padding, "batch_size": batch_size, "cycle_length": 1}
        reviews = ClassificationStream(open_source(file), tokenizer, max_length, **options)
        return DataLoader(reviews, batch_size=None)

    def measured(padding: str) -> dict:
        again, loader = Watch(), loader_of(padding)
        num_samples = sum(len(batch["labels"]) for batch in loader)
        again.lap("epoch")
        rate = num_samples / again.seconds["epoch"]
        return {"samples_per_s": rate, "padding_ratio": padding_ratio(loader.dataset.ledger)}

    import_all()  # imports are not in the clock
    tokenizer = loaded(load_tokenizer, tokenizer_folder, watch)
    loader = loader_of("max_length")
    epoch_ids = count_ids(loader, watch)
    ledger = loader.dataset.ledger.check()
    counts = {
        "epoch_ids": epoch_ids,
        "label_counts": {str(label): count for label, count in label_counts(ledger).items()},
        "truncation_ratio": truncation_ratio(ledger),
        "padding_ratio": padding_ratio(ledger),
        "paddings": {padding: measured(padding) for padding in PADDINGS},
    }
    return {**gather(loader, **LABELLED), "counts": counts}


def map_style(
    file: str, tokenizer_folder: str, max_length: int, batch_size: int, watch: Any
) -> dict:
    """What `classic.lab4` does, with a `ClassificationDataset`; returns what that returns."""
    from torch.utils.data import DataLoader

    from llmpipe import ClassificationDataset, load_tokenizer, open_source

    import_all()
    tokenizer = loaded(load_tokenizer, tokenizer_folder, watch)
    dataset = ClassificationDataset(open_source(file).load("train"), tokenizer, max_length)
    loader = DataLoader(dataset, batch_size, collate_fn=ClassificationDataset.collate)
    counts = {"epoch_ids": count_ids(loader, watch)}
    return {**gather(loader, **LABELLED), "counts": counts}


def compare_lab4(results: Mapping[str, dict], **_: int) -> dict:
    """Whether all ways gave the same ids, masks and labels in batches of the same sizes.

    `counts_equal`: in the clock each gave as many ids as were compared, and the ledger's counts are
    those of the classic way's arrays. Each way's samples/s are those of its own laps.
    """
    old, new = results["classic"], results["llmpipe"]["counts"]
    labels, num_labels = np.unique(old["labels"], return_counts=True)
    counted = {str(label): int(n) for label, n in zip(labels, num_labels, strict=True)}
    whole = all(each["counts"]["epoch_ids"] == each["ids"].size for each in results.values())
    return {
        "batches_equal": all_equal(results, "sizes"),
        "ids_equal": all_equal(results, "ids"),
        "masks_equal": all_equal(results, "mask"),
        "labels_equal": all_equal(results, "labels"),
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
        **rates(results, "labels", "samples"),
    }


def notes_lab4(report: dict) -> list[str]:
    labels = ", ".join(f"{count:,} of {label}" for label, count in report["label_counts"].items())
    same = (
        f"same ids, masks and labels in {report['batches']:,} batches, {report['samples']:,} "
        f"reviews: by label {labels}; {report['truncation_ratio']:.1%} cut, "
        f"{report['padding_ratio']:.1%} of the ids are padding"
    )
    what = ("batches", "ids", "masks", "labels", "counts")
    each_rate = BENCH.each(lambda way: f"{report[f'{way}_samples_per_s']:,.0f}")
    paddings = ", ".join(
        f"{padding} {report[f'{padding}_samples_per_s']:,.0f} "
        f"({report[f'{padding}_padding_ratio']:.1%} padding)"
        for padding in PADDINGS
    )
    return [
        epoch_in_clock(BENCH, report, f"({report['batch_size']}, {report['max_length']})"),
        f"samples/s: {each_rate}; the stream {times(report['ratio'])} as fast as the classic way, "
        f"the data set {times(report['map_style_ratio'])}",
        same_work(report, same, batches=what),
        f"the stream again, once its tokenizer has seen the text, samples/s: {paddings}",
    ]


BENCH = Bench(
    title="Lab 4: labelled text in padded batches",
    dataset="imdb",
    tokenizer="distilbert",
    settings={"max_length": 256, "batch_size": 8},
    stages=EPOCH,
    ways={"classic": classic("lab4"), "llmpipe": stream, "map_style": map_style},
    labels={"llmpipe": "stream", "map_style": "data set"},
    compare=compare_lab4,
    notes=notes_lab4,
)
