"""Pearson's statistic, against tables computed by hand, printed tables, and torch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.classroom.statistics import chi_square, critical_value, p_value


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
    import torch

    half = torch.tensor([degrees_of_freedom / 2, statistic / 2], dtype=torch.float64)
    expected = torch.special.gammaincc(*half).item()
    assert p_value(statistic, degrees_of_freedom) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_chance_alone_seldom_surprises():
    generator = np.random.default_rng(0)
    tables = generator.multinomial(50, [0.5, 0.5], size=(2000, 4))
    surprises = sum(chi_square(table).surprising for table in tables)
    assert 0 <= surprises <= 8  # two are due; more than eight, once in 4,000 seeds


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], r"at least 2 ranks x 2 classes, got shape \(2,\)"),
        ([[1, 2]], r"at least 2 ranks x 2 classes, got shape \(1, 2\)"),
        ([[1], [2]], r"at least 2 ranks x 2 classes, got shape \(2, 1\)"),
        ([[1, -2], [3, 4]], "a count is 0 or more, got -2"),
        ([[1, float("nan")], [3, 4]], "a count is 0 or more, got nan"),
        ([[0, 0], [3, 4]], "rank 0 has no counts"),
        ([[3, 0], [4, 0]], "class 1 has no counts"),
    ],
)
def test_a_table_without_a_statistic_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        chi_square(counts)


@pytest.mark.parametrize(("statistic", "degrees_of_freedom"), [(-1, 1), (1, 0), (float("nan"), 1)])
def test_a_statistic_that_cannot_be_is_refused(statistic, degrees_of_freedom):
    with pytest.raises(ValueError, match="the statistic must be 0 or more"):
        p_value(statistic, degrees_of_freedom)


@pytest.mark.parametrize("chance", [0, 1, -0.1])
def test_a_chance_that_is_none_is_refused(chance):
    with pytest.raises(ValueError, match="chance must be between 0 and 1"):
        critical_value(1, chance)
