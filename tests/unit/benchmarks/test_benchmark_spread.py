"""Percentiles and spreads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.spread import Spread, percentile

NUMBERS = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


def test_the_median_of_an_odd_number_of_values_is_the_middle_one() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0


def test_the_95th_percentile_of_a_hundred_values_is_the_95th() -> None:
    assert percentile([float(value) for value in range(1, 101)], 95) == 95.0


def test_every_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], percent) for percent in (0, 50, 95, 100)] == [7.0] * 4


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


@given(NUMBERS, st.floats(0.1, 100))
def test_at_least_the_asked_share_of_values_is_not_above_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert Spread.of([4.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=4.0)
