"""One progress bar a rank, drawn by the parent alone, on a terminal or in a notebook."""

from __future__ import annotations

import threading
from typing import Any

from llmpipe.kit.rank_report import rate_in_words


class RankBars:
    """An `on_message` for `run_ranks` that moves a bar a rank; use it in a `with` statement.

    A message has `rows_read`, `rows_to_read` (None where nobody knows) and `ids_per_s`, or that of
    another unit. No bars are drawn where outputs are made or compared, as by `progress`.
    """

    def __init__(self, num_ranks: int, unit: str = "ids") -> None:
        from tqdm.auto import tqdm

        from llmpipe.kit.notebooks import compared

        # The bars' lock is by default a semaphore, for other processes that draw too: none does.
        tqdm.set_lock(threading.RLock())
        self.unit = unit
        options = {"unit": " rows", "unit_scale": True, "disable": compared()}
        self.bars = [tqdm(desc=f"rank {r}", position=r, **options) for r in range(num_ranks)]

    def __call__(self, rank: int, message: dict) -> None:
        bar = self.bars[rank]
        bar.total = message["rows_to_read"]
        if rate := message[f"{self.unit}_per_s"]:
            bar.set_postfix_str(rate_in_words(rate, self.unit), refresh=False)
        bar.update(message["rows_read"] - bar.n)

    def write(self, line: str) -> None:
        """Print a line above the bars."""
        type(self.bars[0]).write(line)

    def __enter__(self) -> RankBars:
        return self

    def __exit__(self, *error: Any) -> None:
        for bar in self.bars:
            bar.close()
