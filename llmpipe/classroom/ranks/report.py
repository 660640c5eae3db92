"""What ranks did, for a terminal: a table of them, and all of them together.

`results` are what the ranks returned, a dict each: `rank`, `batches`, `ids`, `ids_per_s`,
`own_rows`, `rows_read`, `bytes_read`, `ledger` for `Ledger.from_dicts`, and `started`,
`first_batch_at` (None without a batch) and `finished` in seconds of one clock. With `unit`
"samples" it is `samples` and `samples_per_s`.
"""

from __future__ import annotations

from llmpipe.classroom.ranks.bars import rate_in_words
from llmpipe.ledger import Entry, Ledger
from llmpipe.metrics import card, table, usable_cores

MIN_STEADY_S = 0.5  # a shorter run tells of its start, not of its throughput


def rank_table(results: list[dict], opened: float, unit: str = "ids") -> str:
    """What each rank did, a line each; seconds count from `opened`, when the ranks were started."""
    rows = []
    for result in results:
        first, rate = result["first_batch_at"], result[f"{unit}_per_s"]
        scale, name = (1e6, "M ids/s") if unit == "ids" else (1, "samples/s")
        rows.append(
            {
                "rank": result["rank"],
                "rows read": result["rows_read"],
                "MB read": result["bytes_read"] / 1e6,
                "own rows": result["own_rows"],
                **({"kept": _kept(result)} if unit == "ids" else {}),
                "batches": result["batches"],
                unit: result[unit],
                "started s": result["started"] - opened,
                "first batch s": first and first - opened,
                "done s": result["finished"] - opened,
                name: (rate / scale if unit == "ids" else round(rate)) or None,
            }
        )
    return table(rows)


def _kept(result: dict) -> int:
    return Ledger.from_dicts(result["ledger"])["filter", "documents"].num_out


def totals(
    results: list[dict], alone: dict, opened: float, closed: float, unit: str = "ids"
) -> dict:
    """All ranks together, and how much of their throughput the number of processes earned.

    `alone` is the result of one rank that read a slice by itself. Seconds: `total_s` from start to
    end, `start_up_s` until every rank had its first batch, `steady_s` to the end of the last from
    the first batch of any, or with `unit` "samples" from its start: there the first batch comes
    late. Rates, the `speed_up` and efficiencies (per rank, and per core that they can use) are of
    the steady state; None where it was shorter than half a second.
    """
    num_ranks, cores = len(results), usable_cores()
    count, alone_rate = sum(result[unit] for result in results), alone[f"{unit}_per_s"] or None
    working = [result for result in results if result["first_batch_at"] is not None]
    firsts = [result["first_batch_at"] for result in working]
    since = firsts if unit == "ids" else [result["started"] for result in working]
    steady_s = max(result["finished"] for result in working) - min(since)
    rate = count / steady_s if steady_s >= MIN_STEADY_S else None
    speed_up = rate / alone_rate if rate and alone_rate else None
    return {
        "unit": unit,
        unit: count,
        "total_s": closed - opened,
        "start_up_s": max(firsts) - opened,
        "steady_s": steady_s,
        f"{unit}_per_s": rate,
        f"alone_{unit}_per_s": alone_rate,
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
    unit, speed_up, used = found["unit"], found["speed_up"], min(num_ranks, cores)
    rate, alone_rate = found[f"{unit}_per_s"], found[f"alone_{unit}_per_s"]

    def words(rate: float) -> str:
        return rate_in_words(rate, unit).strip()

    lines = {
        f"{unit} in batches": found[unit],
        "from start to end": f"{found['total_s']:.2f} s, {words(found[unit] / found['total_s'])}",
        "start-up": f"{found['start_up_s']:.2f} s until every rank had a batch",
        ("steady state" if unit == "ids" else "at work"): f"{found['steady_s']:.2f} s from "
        f"{'first batch' if unit == 'ids' else 'the first start'} to the last end, "
        + (words(rate) if rate else "too short to tell a rate"),
        "one rank alone": (words(alone_rate) if alone_rate else "too short to tell")
        + f", over its first {found['alone_rows']:,} rows ({found['alone_s']:.2f} s)",
        "speed-up": speed_up and f"{speed_up:.2f} with {num_ranks} ranks on {cores} cores",
        "parallel efficiency": speed_up
        and f"{found['efficiency']:.0%} of {num_ranks} ranks, "
        f"{found['core_efficiency']:.0%} of the {used} cores they can use",
    }
    return card("Totals", lines)


def label_table(results: list[dict], names: dict[str, str]) -> str:
    """Reviews of each label by rank, and of all together; `names` says what a label means."""
    labels = sorted({label for result in results for label in result["labels"]}, key=int)
    titles = {label: names.get(label, f"label {label}") for label in labels}
    rows = [
        {
            "rank": str(result["rank"]),
            **{titles[label]: result["labels"].get(label, 0) for label in labels},
        }
        for result in results
    ]
    sums = {titles[label]: sum(row[titles[label]] for row in rows) for label in labels}
    return table([*rows, {"rank": "all", **sums}])


def coordination_table(results: list[dict], opened: float) -> str:
    """When each rank started and ended, and its skew: how much later than the first one to end."""
    first_end = min(result["finished"] for result in results)
    return table(
        [
            {
                "rank": result["rank"],
                "start s": result["started"] - opened,
                "end s": result["finished"] - opened,
                "rows": result["own_rows"],
                "skew s": result["finished"] - first_end,
            }
            for result in results
        ]
    )


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
