"""What ranks did, for a terminal: lines while they run, a table of them, and all of them together.

`results` are what the ranks returned, a dict each: `rank`, `batches`, `ids`, `ids_per_s`,
`own_rows`, `rows_read`, `bytes_read`, `ledger` for `Ledger.from_dicts`, and `started`,
`first_batch_at` (None without a batch) and `finished` in seconds of one clock.
"""

from __future__ import annotations

from typing import Any

from llmpipe.ledger import Entry, Ledger
from llmpipe.metrics import card, table, usable_cores

MIN_STEADY_S = 0.5  # a shorter run tells of its start, not of its throughput


class Progress:
    """Prints what ranks send, as it arrives, and remembers the last of each.

    A message has the `shape` of a batch, and so far the `batches`, `ids` and `ids_per_s` (0 while
    it warms up). With `bars`, which take the messages too, it prints only each rank's first batch.
    """

    def __init__(self, bars: Any = None) -> None:
        self.last: dict[int, dict] = {}
        self.bars = bars

    def __call__(self, rank: int, message: dict) -> None:
        rate = message["ids_per_s"]
        line = (
            f"rank {rank}  batch {message['batches']:>8,}  shape {message['shape']}  "
            f"{message['ids']:>12,} ids  {f'{rate / 1e6:6.2f} M ids/s' if rate else 'warm-up'}"
        )
        if self.bars is None:
            print(line, flush=True)  # in one piece, so that no other process can write into it
        else:
            if rank not in self.last:
                self.bars.write(line)
            self.bars(rank, message)
        self.last[rank] = message

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
        first = result["first_batch_at"]
        rows.append(
            {
                "rank": result["rank"],
                "rows read": result["rows_read"],
                "MB read": result["bytes_read"] / 1e6,
                "own rows": result["own_rows"],
                "kept": ledger["filter", "documents"].num_out,
                "batches": result["batches"],
                "ids": result["ids"],
                "started s": result["started"] - opened,
                "first batch s": first and first - opened,
                "done s": result["finished"] - opened,
                "M ids/s": result["ids_per_s"] / 1e6 or None,
            }
        )
    return table(rows)


def totals(results: list[dict], alone: dict, opened: float, closed: float) -> dict:
    """All ranks together, and how much of their throughput the number of processes earned.

    `alone` is the result of one rank that read a slice by itself. Seconds: `total_s` from start to
    end, `start_up_s` until every rank had its first batch, `steady_s` from the first batch of any
    to the end of the last. Rates, the `speed_up` and efficiencies (per rank, and per core that
    they can use) are of the steady state; None where it was shorter than half a second.
    """
    num_ranks, cores = len(results), usable_cores()
    ids = sum(result["ids"] for result in results)
    working = [result for result in results if result["first_batch_at"] is not None]
    firsts = [result["first_batch_at"] for result in working]
    steady_s = max(result["finished"] for result in working) - min(firsts)
    rate = ids / steady_s if steady_s >= MIN_STEADY_S else None
    speed_up = rate / alone["ids_per_s"] if rate and alone["ids_per_s"] else None
    return {
        "ids": ids,
        "total_s": closed - opened,
        "start_up_s": max(firsts) - opened,
        "steady_s": steady_s,
        "ids_per_s": rate,
        "alone_ids_per_s": alone["ids_per_s"],
        "alone_rows": alone["own_rows"],
        "alone_s": alone["finished"] - alone["first_batch_at"] if alone["batches"] else 0.0,
        "num_ranks": num_ranks,
        "cores": cores,
        "speed_up": speed_up,
        "efficiency": speed_up and speed_up / num_ranks,
        "core_efficiency": speed_up and speed_up / min(num_ranks, cores),
    }


def totals_card(found: dict) -> str:
    """What `totals` found, in words."""
    num_ranks, cores = found["num_ranks"], found["cores"]
    rate, speed_up, used = found["ids_per_s"], found["speed_up"], min(num_ranks, cores)
    lines = {
        "ids in batches": found["ids"],
        "from start to end": f"{found['total_s']:.2f} s, "
        f"{found['ids'] / found['total_s'] / 1e6:.2f} M ids/s",
        "start-up": f"{found['start_up_s']:.2f} s until every rank had a batch",
        "steady state": f"{found['steady_s']:.2f} s from first batch to end, "
        + (f"{rate / 1e6:.2f} M ids/s" if rate else "too short to tell a rate"),
        "one rank alone": f"{found['alone_ids_per_s'] / 1e6:.2f} M ids/s, over its first "
        f"{found['alone_rows']:,} rows ({found['alone_s']:.2f} s)",
        "speed-up": speed_up and f"{speed_up:.2f} with {num_ranks} ranks on {cores} cores",
        "parallel efficiency": speed_up
        and f"{found['efficiency']:.0%} of {num_ranks} ranks, "
        f"{found['core_efficiency']:.0%} of the {used} cores they can use",
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
