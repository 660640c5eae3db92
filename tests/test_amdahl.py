"""Amdahl's law, forwards and backwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.classroom.statistics import fit_serial_share, speed_up


def test_speed_up_is_the_law_and_ends_at_the_cores():
    assert [speed_up(0, n, 4) for n in (1, 2, 4, 9)] == [1, 2, 4, 4]
    assert [speed_up(1, n, 4) for n in (1, 2, 4, 9)] == [1, 1, 1, 1]
    assert speed_up(0.5, 2, 2) == pytest.approx(4 / 3)
    assert speed_up(0.1, 10**9, 10**9) == pytest.approx(10)


@given(
    st.floats(0, 1),
    st.lists(st.integers(2, 64), min_size=1, max_size=6),
    st.integers(2, 64),
    st.floats(1e-3, 1e9),
)
def test_the_share_is_found_again_in_rates_that_follow_the_law(share, others, num_cores, alone):
    num_ranks = [*others, 1]
    rates = [alone * speed_up(share, number, num_cores) for number in num_ranks]
    assert fit_serial_share(num_ranks, rates, num_cores) == pytest.approx(share, abs=1e-6)


def test_the_fit_is_the_least_of_a_grid():
    num_ranks, rates, num_cores = [1, 2, 3, 4, 8], [1.0, 1.7, 2.1, 2.2, 2.9], 4
    grid = np.linspace(0, 1, 10_001)

    def error(share):
        laws = [speed_up(share, number, num_cores) for number in num_ranks]
        return sum((1 / rate - 1 / law) ** 2 for rate, law in zip(rates, laws, strict=True))

    best = min(grid, key=error)
    assert 0 < best < 1
    assert fit_serial_share(num_ranks, rates, num_cores) == pytest.approx(best, abs=1e-4)


def test_what_the_law_cannot_explain_is_given_the_nearer_end():
    assert fit_serial_share([1, 2], [1.0, 0.5], 2) == 1
    assert fit_serial_share([1, 2], [1.0, 3.0], 2) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: speed_up(1.1, 2, 2), "serial_share must be in .*got 1.1"),
        (lambda: speed_up(float("nan"), 2, 2), "got nan"),
        (lambda: speed_up(0.1, 0, 2), "got 0 and 2"),
        (lambda: speed_up(0.1, 2, 0), "got 2 and 0"),
        (lambda: fit_serial_share([1, 2], [1.0], 2), "got 1 for 2"),
        (lambda: fit_serial_share([1, 0], [1.0, 1.0], 2), r"got \[1, 0\] and 2"),
        (lambda: fit_serial_share([1, 2], [1.0, 0.0], 2), "above 0, got"),
        (lambda: fit_serial_share([2, 4], [1.0, 2.0], 4), r"ranks \[2, 4\] on 4 cores"),
        (lambda: fit_serial_share([1, 2], [1.0, 2.0], 1), r"ranks \[1, 2\] on 1 cores"),
        (lambda: fit_serial_share([1], [1.0], 4), r"ranks \[1\] on 4 cores"),
    ],
)
def test_numbers_that_tell_nothing_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
