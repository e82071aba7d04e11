"""Slots, prefixes, and how prompts share a batch."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.llamacpp.sequence import Sequence
from serve.handlers.llamacpp.slots import (
    Slot,
    common_prefix,
    divide,
    place,
    should_wait,
)
from serve.handlers.rate import Rate
from tests.unit.handlers.llamacpp_sequences import Numbered, choices, sequence


def slot(number: int, *cached: int, used: int = 0, sequence: Sequence | None = None) -> Slot:
    return Slot(number, sequence, array("i", cached), used)


def placed(new: Sequence, *slots: Slot, across: bool = True, shares: bool = True) -> tuple[int, int, int] | None:
    """The numbers of target and source, and the length."""
    found = place(new, slots, shares=shares, across_requests=across)
    return (found.target.number, found.source.number, found.length) if found else None


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_a_common_prefix_is_common_and_could_not_be_longer(one: list[int], other: list[int]) -> None:
    length = common_prefix(array("i", one), array("i", other))
    assert one[:length] == other[:length]
    assert one[length : length + 1] != other[length : length + 1] or length in (len(one), len(other))


def test_without_an_idle_slot_there_is_no_place() -> None:
    assert placed(sequence(1), slot(0, sequence=sequence(2))) is None


def test_an_empty_slot_comes_before_one_that_holds_something() -> None:
    assert placed(sequence(9), slot(0, 1, 2, used=1), slot(1, used=5)) == (1, 1, 0)


def test_of_slots_that_hold_something_the_oldest_goes() -> None:
    assert placed(sequence(9), slot(0, 1, 2, used=7), slot(1, 3, 4, used=5)) == (1, 1, 0)


def test_a_slot_with_the_same_beginning_is_taken_over() -> None:
    assert placed(sequence(1, 2, 3, 4), slot(0), slot(1, 1, 2, 3)) == (1, 1, 3)


def test_the_last_token_is_always_decoded() -> None:
    assert placed(sequence(1, 2, 3), slot(0, 1, 2, 3)) == (0, 0, 2)


def test_a_slot_that_holds_much_else_only_lends_its_beginning() -> None:
    assert placed(sequence(1, 2, 9), slot(0, 1, 2, 3, 4, 5, 6), slot(1)) == (1, 0, 2)


def test_a_busy_slot_lends_what_is_in_its_cache() -> None:
    assert placed(sequence(1, 2, 3, 9), slot(0, sequence=sequence(1, 2, 3, 4, done=2)), slot(1)) == (1, 0, 2)


def test_of_equal_beginnings_the_idle_one_is_taken() -> None:
    busy = slot(1, sequence=sequence(1, 2, 5, done=3))
    assert placed(sequence(1, 2, 9), slot(0, 1, 2), busy, slot(2)) == (0, 0, 2)


def test_of_equal_beginnings_one_in_the_cache_is_taken() -> None:
    busy, away = slot(1, sequence=sequence(1, 2, 5, done=3)), slot(0, 1, 2)
    away.aside = np.zeros(2, np.uint8)
    assert placed(sequence(1, 2, 9), away, busy, slot(2)) == (2, 1, 2)


def test_nothing_of_other_requests_is_used_when_that_is_off() -> None:
    assert placed(sequence(1, 2, 3), slot(0, 1, 2), slot(1), across=False) == (1, 1, 0)


def test_choices_of_one_request_share_their_prompt_even_then() -> None:
    first, second = choices(1, 2, 3, n=2)
    first.done = 3
    assert placed(second, slot(0, sequence=first), slot(1), across=False) == (1, 0, 2)


def test_nothing_is_shared_where_the_model_cannot() -> None:
    assert placed(sequence(1, 2, 3), slot(0, 1, 2), shares=False) == (0, 0, 0)


def test_the_choices_of_a_request_wait_for_the_first() -> None:
    first, second = choices(1, 2, 3, n=2)
    assert should_wait(second, [first], across_requests=False)
    first.done, first.generated = 3, 1
    assert not should_wait(second, [first], across_requests=False)


def test_a_prompt_waits_for_a_long_common_beginning_in_progress() -> None:
    shared = range(100)
    running = sequence(*shared, 1, done=10)
    assert should_wait(sequence(*shared, 2), [running], across_requests=True)
    assert not should_wait(sequence(*shared, 2), [running], across_requests=False)
    running.done = 90
    assert not should_wait(sequence(*shared, 2), [running], across_requests=True)


def test_a_prompt_does_not_wait_for_a_short_common_beginning() -> None:
    assert not should_wait(sequence(1, 2, 9), [sequence(1, 2, 3)], across_requests=True)


@pytest.mark.parametrize(
    ("remaining", "budget", "shares"),
    [
        ([], 10, []),
        ([5], 10, [5]),
        ([50], 10, [10]),
        ([3, 4], 10, [3, 4]),
        ([100, 4, 3], 20, [13, 4, 3]),
        ([100, 8, 3], 20, [10, 7, 3]),
        ([8, 8, 8], 16, [8, 8, 0]),
        ([8, 8], 1, [1, 0]),
        ([8], 0, [0]),
    ],
)
def test_the_oldest_prompt_gets_half_and_short_ones_the_rest(
    remaining: list[int], budget: int, shares: list[int]
) -> None:
    assert divide(remaining, budget) == shares


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(0, 100))
def test_shares_use_the_whole_budget_and_no_more(remaining: list[int], budget: int) -> None:
    shares = divide(remaining, budget)
    assert sum(shares) == min(sum(remaining), budget)
    assert all(0 <= share <= wanted for share, wanted in zip(shares, remaining, strict=True))


def test_a_rate_is_the_average_of_the_last_seconds() -> None:
    rate = Rate()
    rate.add(30, now=100.2)
    rate.add(20, now=100.9)
    rate.add(50, now=105.0)
    assert rate.per_second(106.0) == 10.0
    assert rate.per_second(111.0) == 5.0
    assert rate.per_second(200.0) == 0.0


def test_a_rate_forgets_what_was_counted_a_round_ago() -> None:
    rate = Rate()
    rate.add(30, now=100.0)
    rate.add(10, now=111.0)
    assert rate.per_second(111.0) == 1.0


def test_a_cache_is_for_the_adapter_that_made_it_and_no_other() -> None:
    one = slot(0, 1, 2, 3)
    one.adapter = 7
    assert placed(sequence(1, 2, 3, 4, adapter=Numbered(7)), one, slot(1)) == (0, 0, 3)
    assert placed(sequence(1, 2, 3, 4, adapter=Numbered(8)), one, slot(1)) == (1, 1, 0)
    assert placed(sequence(1, 2, 3, 4), one, slot(1)) == (1, 1, 0)


def test_a_prompt_does_not_wait_for_one_of_another_adapter() -> None:
    tokens = range(100)
    assert should_wait(sequence(*tokens), [sequence(*tokens)], across_requests=True)
    assert not should_wait(sequence(*tokens, adapter=Numbered(1)), [sequence(*tokens)], across_requests=True)
