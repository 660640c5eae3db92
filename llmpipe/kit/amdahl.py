"""Amdahl's law: how much faster several ranks can be, and what keeps them from it.

A share s of the work is serial: done by one process while the others wait, or done again by every
one. The rest is split among as many processes as have a core of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def speed_up(serial_share: float, num_ranks: int, num_cores: int) -> float:
    """How many times one rank's throughput `num_ranks` ranks reach: 1 / (s + (1 - s) / n).

    n is the smaller of ranks and cores: a rank without a core of its own adds nothing.

    >>> speed_up(0.0, num_ranks=4, num_cores=2), speed_up(0.25, num_ranks=4, num_cores=8)
    (2.0, 2.2857142857142856)

    Raises ValueError for a share that is not in [0, 1], or for less than one rank or core.
    """
    if not 0 <= serial_share <= 1:
        raise ValueError(f"serial_share must be in [0, 1], got {serial_share}")
    if num_ranks < 1 or num_cores < 1:
        raise ValueError(f"needs a rank and a core or more, got {num_ranks} and {num_cores}")
    return 1 / (serial_share + (1 - serial_share) / min(num_ranks, num_cores))


def fit_serial_share(num_ranks: Sequence[int], rates: Sequence[float], num_cores: int) -> float:
    """The serial share, in [0, 1], with which Amdahl's law comes closest to measured `rates`.

    `rates` are the throughputs (any unit) of all ranks together. One rank's must be among them:
    the others are taken relative to it.

    >>> fit_serial_share([1, 2, 4], [3.0, 4.8, 4.8], num_cores=2)
    0.25

    The time of n ranks relative to one is s + (1 - s) / n = 1/n + s (1 - 1/n), a line in s: least
    squares over these times has one answer, the sum of (1 - 1/n) (time - 1/n) over the sum of
    (1 - 1/n)². Where it is outside of [0, 1] (ranks that are slower than one are not in the law),
    the nearer end is given.

    Raises ValueError for rates that are not positive, and where nothing tells the share: without
    one rank, or without a number of ranks that puts a second core to use.
    """
    if len(num_ranks) != len(rates):
        raise ValueError(
            f"needs a rate for each number of ranks, got {len(rates)} for {len(num_ranks)}"
        )
    if num_cores < 1 or any(number < 1 for number in num_ranks):
        raise ValueError(f"needs a rank and a core or more, got {list(num_ranks)} and {num_cores}")
    if not all(rate > 0 for rate in rates):
        raise ValueError(f"rates must be above 0, got {list(rates)}")
    busy_cores = np.minimum(num_ranks, num_cores)
    if 1 not in list(num_ranks) or busy_cores.max() == 1:
        raise ValueError(
            f"needs the rate of one rank and of several on two cores or more, got ranks "
            f"{list(num_ranks)} on {num_cores} cores"
        )
    times = rates[list(num_ranks).index(1)] / np.asarray(rates, dtype=float)
    split = 1 - 1 / busy_cores
    share = float(split @ (times - 1 / busy_cores) / (split @ split))
    return min(1.0, max(0.0, round(share, 12)))
