"""When the circuit breaker lets a call through; tests of the handler see what comes of it."""

from __future__ import annotations

import pytest

from serve.handlers.upstream.breaker import Breaker, CircuitOpen
from serve.settings.upstream import UpstreamBreaker


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(failures: int = 2) -> tuple[Breaker, Clock]:
    """A breaker that opens for 10 s."""
    clock = Clock()
    return Breaker(UpstreamBreaker(failures=failures, open_seconds=10), clock), clock


def test_only_failures_in_a_row_open_the_breaker() -> None:
    one, _ = breaker()
    one.enter().failed()
    one.enter().succeeded()
    one.enter().failed()
    assert not one.open
    one.enter().failed()
    assert one.open


def test_an_open_breaker_lets_one_trial_through_at_a_time() -> None:
    one, clock = breaker(1)
    one.enter().failed()
    clock.now = 9.0
    with pytest.raises(CircuitOpen) as refused:
        one.enter()
    assert refused.value.seconds == 1.0
    clock.now = 10.0
    trial = one.enter()
    with pytest.raises(CircuitOpen):
        one.enter()
    trial.succeeded()
    assert not one.open


def test_a_trial_that_fails_opens_it_anew() -> None:
    one, clock = breaker(3)
    for _ in range(3):
        one.enter().failed()
    clock.now = 10.0
    one.enter().failed()
    clock.now = 19.0
    with pytest.raises(CircuitOpen):
        one.enter()


def test_a_trial_that_was_given_up_makes_room_for_another() -> None:
    one, clock = breaker(1)
    one.enter().failed()
    clock.now = 10.0
    one.enter().given_up()
    one.enter().succeeded()
    assert not one.open


def test_a_trial_whose_answer_has_begun_lets_others_through_and_its_break_closes_the_way_again() -> None:
    one, clock = breaker(5)
    for _ in range(5):
        one.enter().failed()
    clock.now = 10.0
    trial = one.enter()
    trial.answering()
    one.enter().given_up()
    trial.failed()
    assert one.open


def test_what_was_under_way_when_it_opened_does_not_lengthen_the_pause() -> None:
    one, clock = breaker(1)
    late = one.enter()
    one.enter().failed()
    clock.now = 9.0
    late.failed()
    clock.now = 10.0
    one.enter()


def test_a_call_ends_once() -> None:
    one, _ = breaker(2)
    call = one.enter()
    call.failed()
    call.failed()
    call.succeeded()
    assert not one.open
    one.enter().failed()
    assert one.open
