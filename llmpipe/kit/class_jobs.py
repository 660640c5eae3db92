"""What the labs let their ranks do with labelled text, where every process can import it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llmpipe.kit.rank_work import RankSettings, go_through
from llmpipe.ledger import Entry, Ledger
from llmpipe.sharding import World
from llmpipe.shares import Share

SAMPLES = 2  # reviews that each rank shows
LINE_WIDTH = 76


@dataclass(frozen=True)
class ReviewSettings(RankSettings):
    """What the ranks of classification are told."""

    max_length: int = 256
    batch_size: int = 8
    padding: str = "max_length"
    text_column: str = "text"
    label_column: str = "label"
    num_labels: int | None = None


def classify_batches(world: World, send: Callable[[dict], None], settings: ReviewSettings) -> dict:
    """Go through the batches of one rank's share of labelled text; its figures, fit for JSON.

    They are those of `go_through` in samples, `rank`, `own_rows`, `labels` (how many of each),
    `truncation_ratio`, `padding_ratio`, and `ledger` for `Ledger.from_dicts`.
    """
    from llmpipe import ClassificationStream
    from llmpipe.label_account import label_counts, padding_ratio, truncation_ratio
    from llmpipe.uneven import Evened, torch_vote

    share, columns = settings.share(world), (settings.text_column, settings.label_column)
    if settings.shows:
        _show(send, settings.share(world), columns)
    stream = ClassificationStream(
        share,
        settings.tokenizer,
        settings.max_length,
        text_column=columns[0],
        label_column=columns[1],
        num_labels=settings.num_labels,
        padding=settings.padding,
        batch_size=settings.batch_size,
    )
    with settings.group(world), _warnings_sent(send):
        batches = Evened(stream, settings.uneven, torch_vote, {}, world.world_size)
        # A share is a few thousand reviews, and the first batch comes when a good part of them is
        # tokenized: leaving it out would flatter the rate.
        figures = go_through(
            batches,
            send,
            settings.max_batches,
            share,
            "samples",
            lambda batch: len(batch["labels"]),
            warm_up=0,
        )
    ledger, labels = stream.ledger, Counter(label_counts(stream.ledger))
    if settings.uneven != "go on":
        withheld = batches.withheld["labels"].tolist() if batches.withheld else []
        rows = ledger["read", "documents"].num_out
        dropped = {"uneven ranks": len(withheld)}
        ledger = ledger + Ledger(
            Entry("batch", "documents", rows, rows - len(withheld), dropped=dropped)
        )
        labels.subtract(withheld)
    return {
        "rank": world.rank,
        **figures,
        "own_rows": ledger["read", "documents"].num_out,
        "labels": {str(label): count for label, count in labels.items()},
        "truncation_ratio": truncation_ratio(ledger),
        "padding_ratio": padding_ratio(ledger),
        "ledger": ledger.check().to_dicts(),
    }


@contextmanager
def _warnings_sent(send: Callable[[dict], None]) -> Iterator[None]:
    """Within, a warning is a line that the parent prints: each once, and untorn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        send({"line": f"warning: {text}"})


def _show(send: Callable[[dict], None], share: Share, columns: tuple[str, str]) -> None:
    """Send the first reviews of a share with their labels, cut to a line."""
    text, label = columns
    table = next(share.tables(text, label), None)
    for row in table.slice(0, SAMPLES).to_pylist() if table else ():
        words = " ".join(str(row[text]).split())
        cut = words if len(words) <= LINE_WIDTH else words[: LINE_WIDTH - 4] + " ..."
        send({"line": f"label {row[label]}  {cut}"})
