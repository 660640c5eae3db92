"""What ranks did, for a terminal of 80 columns: tables of them, and all of them together.

`results` are what `go_through` returned in each; `unit` is "tokens" or "samples". Seconds count
from `opened`, when the ranks were started.
"""

from __future__ import annotations

from llmpipe.classroom.ranks.bars import rate_in_words
from llmpipe.ledger import Ledger
from llmpipe.metrics import card, table, usable_cores

MIN_STEADY_S = 0.5  # a shorter run tells of its start, not of its throughput


def rank_table(results: list[dict], unit: str = "tokens") -> str:
    """What each rank read, kept and made of it, a line each."""
    name, scale, digits = ("M tokens/s", 1e6, 2) if unit == "tokens" else ("samples/s", 1, None)
    return table(
        [
            {
                "rank": result["rank"],
                "rows read": result["rows_read"],
                "MB read": result["bytes_read"] / 1e6,
                "own rows": result["own_rows"],
                **({"kept": result["kept"]} if unit == "tokens" else {}),
                "batches": result["batches"],
                unit: result[unit],
                name: round(rate / scale, digits) if (rate := result[f"{unit}_per_s"]) else None,
            }
            for result in results
        ]
    )


def coordination_table(results: list[dict], opened: float) -> str:
    """When each rank was at work, and its skew: how much later than the first one it ended."""
    first_end = min(result["finished"] for result in results)
    return table(
        [
            {
                "rank": result["rank"],
                "start s": result["started"] - opened,
                "first batch s": (first := result["first_batch_at"]) and first - opened,
                "end s": result["finished"] - opened,
                "rows": result["own_rows"],
                "skew s": result["finished"] - first_end,
            }
            for result in results
        ]
    )


def label_table(results: list[dict], names: dict[str, str]) -> str:
    """Reviews of each label by rank, and of all together; `names` says what a label means."""
    labels = sorted({label for result in results for label in result["labels"]}, key=int)
    titles = {label: names.get(label, f"label {label}") for label in labels}
    rows = [{"rank": str(result["rank"])} for result in results]
    for row, result in zip(rows, results, strict=True):
        row |= {title: result["labels"].get(label, 0) for label, title in titles.items()}
    sums = {title: sum(row[title] for row in rows) for title in titles.values()}
    return table([*rows, {"rank": "all", **sums}])


def total_ledger(results: list[dict]) -> Ledger:
    """What all ranks together counted; where they went on from states, those included."""
    return sum((Ledger.from_dicts(result["ledger"]) for result in results), Ledger()).check()


def totals(
    results: list[dict], alone: dict, opened: float, closed: float, unit: str = "tokens"
) -> dict:
    """All ranks together, and how much of their throughput the number of processes earned.

    `alone` is the result of one rank that read a slice by itself. Seconds: `total_s` from start to
    end, `start_up_s` until every rank had its first batch, `steady_s` to the end of the last from
    the first batch of any, or with `unit` "samples" from its start: there the first batch comes
    late. Rates, the `speed_up` and efficiencies (per rank, and per core that they can use) are of
    the steady state; None where it was shorter than half a second. Without a batch it is empty.
    """
    num_ranks, cores = len(results), usable_cores()
    count, alone_rate = sum(result[unit] for result in results), alone[f"{unit}_per_s"] or None
    working = [result for result in results if result["first_batch_at"] is not None]
    if not working:
        return {}
    firsts = [result["first_batch_at"] for result in working]
    since = firsts if unit == "tokens" else [result["started"] for result in working]
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
    if not found:
        return card("Totals", {"batches": 0})
    num_ranks, cores = found["num_ranks"], found["cores"]
    unit, speed_up, used = found["unit"], found["speed_up"], min(num_ranks, cores)
    rate, alone_rate = found[f"{unit}_per_s"], found[f"alone_{unit}_per_s"]

    def words(rate: float | None) -> str:
        return rate_in_words(rate, unit).strip() if rate else "too short to tell"

    state, since = ("steady state", "batch") if unit == "tokens" else ("at work", "start")
    lines = {
        f"{unit} in batches": found[unit],
        "from start to end": f"{found['total_s']:.2f} s, {words(found[unit] / found['total_s'])}",
        "start-up": f"{found['start_up_s']:.2f} s until every rank had a batch",
        state: f"{found['steady_s']:.2f} s from first {since} to last end, {words(rate)}",
        "one rank alone": f"{words(alone_rate)}, over its first {found['alone_rows']:,} rows "
        f"({found['alone_s']:.2f} s)",
        "speed-up": speed_up and f"{speed_up:.2f} with {num_ranks} ranks on {cores} cores",
        "parallel efficiency": speed_up
        and f"{found['efficiency']:.0%} of {num_ranks} ranks, "
        f"{found['core_efficiency']:.0%} of the {used} cores they can use",
    }
    return card("Totals", lines)


def no_batches(results: list[dict], name: str, uneven: str, block_size: int | None = None) -> str:
    """Why not one rank had a batch of the source of this name, with the figures that tell."""
    if uneven == "shortest":
        return (
            f"no batch from {name}: at least one of {len(results)} ranks has none, and by --uneven "
            "shortest all end with it; take fewer --workers, or --uneven continue"
        )
    if block_size is None:
        return f"no batch from {name}: it has no rows"
    ledger = total_ledger(results)
    rows = ledger["filter", "documents"]
    return (
        f"no batch from {name}: {rows.num_in:,} rows were read, {rows.num_out:,} kept (dropped: "
        f"{dict(rows.dropped)}), {ledger['chunk', 'ids'].num_in:,} tokens in all, where a rank "
        f"needs {block_size} for a block; give more text, or a smaller --block-size"
    )
