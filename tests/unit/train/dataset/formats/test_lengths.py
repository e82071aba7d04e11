"""Distributions of lengths: exact where it matters, and small."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.dataset.formats import Lengths


def lengths(*values: int) -> Lengths:
    found = Lengths()
    for value in values:
        found.add(value)
    return found


def test_short_lengths_have_exact_percentiles() -> None:
    found = lengths(*range(1, 101))
    assert [found.percentile(share) for share in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]


@given(st.lists(st.integers(0, 10**9), min_size=1), st.integers(0, 100))
def test_percentiles_are_right_to_half_a_percent_at_any_length(values: list[int], share: int) -> None:
    exact = sorted(values)[max(0, -(-len(values) * share // 100) - 1)]
    assert lengths(*values).percentile(share) == pytest.approx(exact, rel=0.005)


@given(st.lists(st.integers(0, 5000)), st.lists(st.integers(0, 5000)))
def test_merged_is_as_if_counted_in_one(one: list[int], other: list[int]) -> None:
    merged = lengths(*one)
    merged.merge(lengths(*other))
    assert merged.body() == lengths(*one, *other).body()
    assert merged.doublings() == lengths(*one, *other).doublings()


def test_memory_stays_small_whatever_is_counted() -> None:
    found = lengths(*range(0, 10**8, 997))
    assert found.count == 100_301
    assert sys.getsizeof(found._counts) < 500_000


def test_bars_of_a_histogram_have_no_gaps_between_them() -> None:
    assert lengths(0, 1, 9, 8, 70).doublings() == {0: 1, 1: 1, 2: 0, 4: 0, 8: 2, 16: 0, 32: 0, 64: 1}
    assert Lengths().doublings() == {}


def test_nothing_counted_is_zero_everywhere() -> None:
    assert set(Lengths().body().values()) == {0}
