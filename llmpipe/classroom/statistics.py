"""What measurements say: Amdahl's law for rates of ranks, Pearson's statistic for their classes.

`fit_serial_share` finds in measured rates what more ranks cannot divide, `speed_up` says what that
leaves to be won; `chi_square` tells whether classes lie on ranks as chance could have put them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SURPRISING = 0.001  # chance divides so unevenly, or worse, once in a thousand tables


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


class ChiSquare(NamedTuple):
    """`statistic` (no unit), `degrees_of_freedom`, and the `critical` value to compare it with."""

    statistic: float
    degrees_of_freedom: int
    critical: float

    @property
    def surprising(self) -> bool:
        """Whether the statistic is above the critical value: chance alone hardly does that."""
        return self.statistic > self.critical


def chi_square(counts: Any) -> ChiSquare:
    """Pearson's statistic of a table of counts, shape (ranks, classes).

    statistic = sum over all cells of (count - expected)^2 / expected, where a cell's expected
    count is its row's sum times its column's sum over the sum of all; degrees of freedom =
    (ranks - 1)(classes - 1). Were rows divided by chance, the statistic would be near the degrees
    of freedom, and above `critical` once in 1,000 times; 0 is a table that is exactly even. The
    chance is approximate, and good where expected counts are 5 or more.

    >>> chi_square([[10, 20], [20, 10]])
    ChiSquare(statistic=6.666666666666667, degrees_of_freedom=1, critical=10.828)

    Raises ValueError if the table has fewer than two rows or columns, a negative count, or a row or
    column of zeros, whose expected counts would be 0.

    From K. Pearson, "On the criterion that a given system of deviations ... can be reasonably
    supposed to have arisen from random sampling", Philosophical Magazine 50 (1900).
    """
    table = np.asarray(counts, np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(
            f"counts must be a table of at least 2 ranks x 2 classes, got shape {table.shape}"
        )
    if not (table >= 0).all():
        raise ValueError(f"a count is 0 or more, got {table[~(table >= 0)][0]:g}")
    of_ranks, of_classes = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    for name, sums in (("rank", of_ranks.ravel()), ("class", of_classes.ravel())):
        if not sums.all():
            raise ValueError(f"{name} {int(np.argmin(sums))} has no counts: leave it out")
    expected = of_ranks * of_classes / table.sum()
    degrees_of_freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    statistic = float(((table - expected) ** 2 / expected).sum())
    return ChiSquare(statistic, degrees_of_freedom, critical_value(degrees_of_freedom))


def p_value(statistic: float, degrees_of_freedom: int) -> float:
    """How often chance alone gives `statistic` or more: a number in [0, 1].

    The finite sums of Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), formulas
    26.4.4 (odd degrees of freedom) and 26.4.5 (even).

    >>> round(p_value(3.841, 1), 4), round(p_value(16.266, 3), 6)
    (0.05, 0.001)

    Raises ValueError if `statistic` is negative or `degrees_of_freedom` less than 1.
    """
    if not statistic >= 0 or degrees_of_freedom < 1:
        raise ValueError(
            "the statistic must be 0 or more and degrees_of_freedom 1 or more, "
            f"got {statistic} and {degrees_of_freedom}"
        )
    half = statistic / 2
    if half == 0:
        return 1.0
    odd = degrees_of_freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    for step in range(degrees_of_freedom // 2):
        power = step + odd / 2
        # By logarithms, as powers and factorials apart would overflow.
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(total, 1.0)


def critical_value(degrees_of_freedom: int, chance: float = SURPRISING) -> float:
    """The statistic that chance alone exceeds with probability `chance`, to three decimals.

    >>> [critical_value(k) for k in (1, 2, 3, 7)]
    [10.828, 13.816, 16.266, 24.322]

    Raises ValueError if `chance` is not between 0 and 1, and what `p_value` raises.
    """
    if not 0 < chance < 1:
        raise ValueError(f"chance must be between 0 and 1, got {chance}")
    low, high = 0.0, 1.0
    while p_value(high, degrees_of_freedom) > chance:
        low, high = high, 2 * high
    while high - low > 1e-6:
        if p_value(middle := (low + high) / 2, degrees_of_freedom) > chance:
            low = middle
        else:
            high = middle
    return round(high, 3)
