"""Whose turn it is among the adapters of one context."""

from __future__ import annotations

from collections import Counter

from serve.handlers.llamacpp.turns import TURN_SECONDS, Turns


def test_the_model_alone_is_never_made_to_wait() -> None:
    turns = Turns()
    assert [turns.next([0, 0], step * TURN_SECONDS) for step in range(4)] == [0, 0, 0, 0]


def test_with_nothing_to_run_somebody_still_has_the_turn() -> None:
    turns = Turns()
    assert turns.next([], 0.0) == 0
    assert turns.next([3], 1.0) == 3
    assert turns.next([], 2.0) == 3


def test_a_turn_lasts_some_quick_decodes() -> None:
    turns = Turns()
    steps = [turns.next([0, 1], step * TURN_SECONDS / 4) for step in range(12)]
    assert steps == [0] * 4 + [1] * 4 + [0] * 4


def test_a_turn_is_one_slow_decode() -> None:
    turns = Turns()
    assert [turns.next([1, 2, 3], step * 1.0) for step in range(6)] == [1, 2, 3, 1, 2, 3]


def test_who_has_nothing_more_to_run_gives_the_turn_up_at_once() -> None:
    turns = Turns()
    assert turns.next([1, 2], 0.0) == 1
    assert turns.next([2], 0.0) == 2
    assert turns.next([1, 2], 0.0) == 2


def test_who_comes_and_goes_does_not_starve_the_others() -> None:
    turns = Turns()
    counts = Counter(turns.next([1, 2] if step % 2 == 0 else [2, 3], float(step)) for step in range(30))
    assert min(counts[number] for number in (1, 2, 3)) >= 7


def test_one_that_is_forgotten_leaves_no_trace() -> None:
    turns = Turns()
    for number in range(1, 100):
        turns.next([0, number], float(2 * number))
        turns.next([0, number], float(2 * number + 1))
        turns.forget(number)
    turns.forget(12345)
    assert turns.next([0], 1e6) == 0
