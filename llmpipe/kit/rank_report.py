"""What ranks did, for a terminal: lines while they run, a table of them, and all of them together.

`results` are what the ranks returned, a dict each: rank, batches, ids, ids_per_s, `first_batch_at`
(None without a batch) and `finished` in seconds of one clock, and `ledger` for
`Ledger.from_dicts`.
"""

from __future__ import annotations

from llmpipe.ledger import Entry, Ledger
from llmpipe.metrics import card, table, usable_cores

MIN_STEADY_S = 0.5  # a shorter run tells of its start, not of its throughput


class Progress:
    """Prints what ranks send, as it arrives, and remembers the last of each.

    A message has the `shape` of a batch, and so far the `batches`, `ids` and `ids_per_s` (0 while
    it warms up).
    """

    def __init__(self) -> None:
        self.last: dict[int, dict] = {}

    def __call__(self, rank: int, message: dict) -> None:
        self.last[rank] = message
        rate = f"{message['ids_per_s'] / 1e6:6.2f} M ids/s" if message["ids_per_s"] else "warm-up"
        print(
            f"rank {rank}  batch {message['batches']:>8,}  shape {message['shape']}  "
            f"{message['ids']:>12,} ids  {rate}",
            flush=True,
        )

    def table(self) -> str:
        return table(
            [
                {"rank": rank, "batches": last["batches"], "ids": last["ids"]}
                for rank, last in sorted(self.last.items())
            ]
        )


def rank_table(results: list[dict], opened: float) -> str:
    """What each rank did, a line each; seconds count from `opened`, when the ranks were started."""
    rows = []
    for result in results:
        ledger = Ledger.from_dicts(result["ledger"])
        documents = [entry for entry in ledger if entry.stage == "filter"]
        first = result["first_batch_at"]
        rows.append(
            {
                "rank": result["rank"],
                "rows": sum(entry.num_in for entry in documents),
                "kept": sum(entry.num_out for entry in documents),
                "batches": result["batches"],
                "ids": result["ids"],
                "first batch s": first and first - opened,
                "done s": result["finished"] - opened,
                "M ids/s": result["ids_per_s"] / 1e6 or None,
            }
        )
    return table(rows)


def totals(results: list[dict], alone: dict, opened: float, closed: float) -> str:
    """Overall throughput, and how much of it the number of processes earned."""
    num_ranks, cores, total_s = len(results), usable_cores(), closed - opened
    ids = sum(result["ids"] for result in results)
    working = [result for result in results if result["first_batch_at"] is not None]
    steady_s = max((r["finished"] for r in working), default=0) - min(
        (r["first_batch_at"] for r in working), default=0
    )
    rate = ids / steady_s if steady_s >= MIN_STEADY_S else None
    speed_up = rate / alone["ids_per_s"] if rate and alone["ids_per_s"] else None
    lines = {
        "ids in batches": ids,
        "from start to end": f"{total_s:.2f} s, {ids / total_s / 1e6:.2f} M ids/s",
        "from first batch to end": rate and f"{steady_s:.2f} s, {rate / 1e6:.2f} M ids/s",
        "one rank alone": f"{alone['ids_per_s'] / 1e6:.2f} M ids/s, "
        f"over its first {alone['steady_s']:.1f} s",
        "speed-up": speed_up and f"{speed_up:.2f} with {num_ranks} ranks on {cores} cores",
        "parallel efficiency": speed_up
        and f"{speed_up / num_ranks:.0%} of {num_ranks} ranks, "
        f"{speed_up / min(num_ranks, cores):.0%} of the {min(num_ranks, cores)} cores they can use",
    }
    return card("Totals", lines)


def no_batches(results: list[dict], source_name: str, block_size: int) -> str:
    """Why not one rank had a batch, with the figures that tell."""
    ledger = sum((Ledger.from_dicts(result["ledger"]) for result in results), Ledger())
    figures = {(entry.stage, entry.unit): entry for entry in ledger}
    rows = figures.get(("filter", "documents"), Entry("filter", "documents"))
    ids = figures["chunk", "ids"].num_in
    return (
        f"no batch from {source_name}: {rows.num_in:,} rows were read, "
        f"{rows.num_out:,} kept (dropped: {dict(rows.dropped)}), {ids:,} ids in all, "
        f"where a rank needs {block_size} for a block; give more text, "
        "or a smaller --block-size"
    )
