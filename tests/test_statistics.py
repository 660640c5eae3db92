"""Amdahl's law, forwards and backwards; Pearson's statistic, against printed tables and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.classroom.statistics import (
    chi_square,
    critical_value,
    fit_serial_share,
    p_value,
    speed_up,
)


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


def test_the_statistic_of_a_table_computed_by_hand():
    # Rows sum to 30, 30, 40 and columns to 40, 60 of 100: 12, 18 / 12, 18 / 16, 24 are expected.
    # (9 + 9 + 0) / column 1's 12, 12, 16 and so on: 9/12 + 9/18 + 9/12 + 9/18 + 0 + 0 = 2.5.
    result = chi_square([[15, 15], [9, 21], [16, 24]])
    assert result.statistic == pytest.approx(2.5)
    assert result.degrees_of_freedom == 2
    assert result.critical == 13.816
    assert not result.surprising


def test_one_class_a_rank_gives_the_number_of_rows():
    # All is expected to be 5: each of the four cells is 25 / 5 from it.
    result = chi_square([[10, 0], [0, 10]])
    assert result == (20, 1, 10.828)
    assert result.surprising


def test_an_even_table_gives_zero():
    assert chi_square([[6, 4, 2], [12, 8, 4]]).statistic == 0


@pytest.mark.parametrize(
    ("degrees_of_freedom", "at_5_percent", "at_1_in_1000"),
    # As printed in every table of the distribution.
    [
        (1, 3.841, 10.828),
        (2, 5.991, 13.816),
        (3, 7.815, 16.266),
        (7, 14.067, 24.322),
        (10, 18.307, 29.588),
        (30, 43.773, 59.703),
        (100, 124.342, 149.449),
    ],
)
def test_critical_values_are_those_of_the_printed_tables(
    degrees_of_freedom, at_5_percent, at_1_in_1000
):
    assert critical_value(degrees_of_freedom, 0.05) == at_5_percent
    assert critical_value(degrees_of_freedom) == at_1_in_1000


@given(st.floats(0, 2000), st.integers(1, 1000))
def test_the_chance_is_the_incomplete_gamma_function_of_torch(statistic, degrees_of_freedom):
    half = torch.tensor([degrees_of_freedom / 2, statistic / 2], dtype=torch.float64)
    expected = torch.special.gammaincc(*half).item()
    assert p_value(statistic, degrees_of_freedom) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_chance_alone_seldom_surprises():
    generator = np.random.default_rng(0)
    tables = generator.multinomial(50, [0.5, 0.5], size=(2000, 4))
    surprises = sum(chi_square(table).surprising for table in tables)
    assert 0 <= surprises <= 8  # two are due; more than eight, once in 4,000 seeds


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
        (lambda: chi_square([1, 2]), r"at least 2 ranks x 2 classes, got shape \(2,\)"),
        (lambda: chi_square([[1, 2]]), r"at least 2 ranks x 2 classes, got shape \(1, 2\)"),
        (lambda: chi_square([[1], [2]]), r"at least 2 ranks x 2 classes, got shape \(2, 1\)"),
        (lambda: chi_square([[1, -2], [3, 4]]), "a count is 0 or more, got -2"),
        (lambda: chi_square([[1, float("nan")], [3, 4]]), "a count is 0 or more, got nan"),
        (lambda: chi_square([[0, 0], [3, 4]]), "rank 0 has no counts"),
        (lambda: chi_square([[3, 0], [4, 0]]), "class 1 has no counts"),
        (lambda: p_value(-1, 1), "the statistic must be 0 or more"),
        (lambda: p_value(1, 0), "the statistic must be 0 or more"),
        (lambda: p_value(float("nan"), 1), "the statistic must be 0 or more"),
        (lambda: critical_value(1, 0), "chance must be between 0 and 1"),
        (lambda: critical_value(1, 1), "chance must be between 0 and 1"),
        (lambda: critical_value(1, -0.1), "chance must be between 0 and 1"),
    ],
)
def test_numbers_that_tell_nothing_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
