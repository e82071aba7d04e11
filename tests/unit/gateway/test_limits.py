"""Requests and tokens a minute."""

from __future__ import annotations

import math

import pytest

from serve.errors import RateLimited
from serve.gateway import limits
from serve.gateway.limits import Bucket, RateLimits


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds since some time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that limits look at."""
    found = Clock()
    monkeypatch.setattr(limits, "time", found)
    return found


def refused(rates: RateLimits, requests: int | None, tokens: int | None) -> RateLimited:
    """The error for one request too many."""
    with pytest.raises(RateLimited) as raised:
        rates.take_request("k", requests, tokens)
    return raised.value


def test_a_minutes_requests_may_come_at_once_and_no_more(clock: Clock) -> None:
    rates = RateLimits()
    for _ in range(3):
        rates.take_request("k", 3, None)
    error = refused(rates, 3, None)
    assert (error.code, error.retry_after) == ("requests_per_minute", 20.0)


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60, 1000])
def test_a_request_after_the_time_that_was_told_is_taken(clock: Clock, per_minute: int) -> None:
    rates = RateLimits()
    for _ in range(per_minute):
        rates.take_request("k", per_minute, None)
    for _ in range(5):
        error = refused(rates, per_minute, None)
        assert error.retry_after
        clock.now += math.ceil(error.retry_after)
        while True:
            try:
                rates.take_request("k", per_minute, None)
            except RateLimited:
                break


def test_an_idle_key_gathers_one_minutes_requests_and_not_more(clock: Clock) -> None:
    rates = RateLimits()
    rates.take_request("k", 2, None)
    clock.now += 3600
    rates.take_request("k", 2, None)
    rates.take_request("k", 2, None)
    refused(rates, 2, None)


def test_tokens_are_counted_when_they_are_known_and_hold_up_the_next_request(clock: Clock) -> None:
    rates = RateLimits()
    rates.take_request("k", None, 60)
    rates.add_tokens("k", 90)
    error = refused(rates, None, 60)
    assert (error.code, error.retry_after) == ("tokens_per_minute", 31.0)
    clock.now += 31
    rates.take_request("k", None, 60)


def test_a_limit_used_up_to_the_last_token_is_used_up(clock: Clock) -> None:
    rates = RateLimits()
    rates.take_request("k", None, 60)
    rates.add_tokens("k", 60)
    clock.now += 0.001
    assert refused(rates, None, 60).retry_after == pytest.approx(0.999)


def test_a_request_refused_for_its_tokens_is_not_counted_as_a_request(clock: Clock) -> None:
    rates = RateLimits()
    rates.take_request("k", 2, 60)
    rates.add_tokens("k", 60)
    refused(rates, 2, 60)
    clock.now += 1
    rates.take_request("k", 2, 60)


def test_every_key_has_its_own_limits(clock: Clock) -> None:
    rates = RateLimits()
    rates.take_request("k", 1, None)
    rates.take_request("other", 1, None)
    refused(rates, 1, None)


def test_a_key_without_limits_is_never_refused(clock: Clock) -> None:
    rates = RateLimits()
    for _ in range(10_000):
        rates.take_request("k", None, None)
    rates.add_tokens("k", 10**9)
    rates.take_request("k", None, None)


def test_a_limit_that_is_changed_begins_anew(clock: Clock) -> None:
    rates = RateLimits()
    rates.take_request("k", 1, None)
    rates.take_request("k", 5, None)


def test_a_bucket_never_says_that_a_wait_is_negative() -> None:
    assert Bucket(60, 5.0, 0.0).seconds_until(1) == 0.0
