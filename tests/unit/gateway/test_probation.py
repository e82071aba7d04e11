"""A canary on probation is promoted once it has come through it, and by nothing less."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from serve.adapters import promotions
from serve.adapters.promotions import Probation
from serve.store import UsageRecord
from tests.unit.gateway.group import opened
from tests.unit.gateway.test_feedback_watch import RULES, Watched

#: Enough of everything.
REQUESTS, RATINGS, HOURS = 5, 4, 2.0


class Clock(datetime):
    """The time as the registry is told it: some hours ago."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) - timedelta(hours=HOURS + 0.1)


@pytest_asyncio.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    store = await opened(tmp_path)
    yield Watched(store, tmp_path, passed=True)
    await store.close()


async def on_probation(watched: Watched, monkeypatch: pytest.MonkeyPatch, *, long_ago: bool = True) -> None:
    """The canary, seen by the watch, with conversations that people have liked as often as is needed."""
    probation = Probation(hours=HOURS, min_requests=REQUESTS, min_ratings=RATINGS)
    with monkeypatch.context() as patched:
        if long_ago:
            patched.setattr(promotions, "datetime", Clock)
        watched.promotions.canary("m", "a", 0.5, by="loop", rules=RULES, probation=probation)
    # What was answered before it was the canary counts for nothing.
    answered(watched, REQUESTS)
    await watched.watch.look()


def answered(watched: Watched, requests: int) -> None:
    for _ in range(requests):
        watched.watch.note("m", "m:a")


async def promoted(watched: Watched) -> bool:
    await watched.watch.look()
    return watched.promotions.standing("m").default == watched.pin


async def test_it_is_promoted_by_the_gate_and_the_record_says_why(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await on_probation(watched, monkeypatch)
    await watched.rate("m:a", 5, 1)
    answered(watched, REQUESTS)
    assert await promoted(watched)
    last = watched.promotions.history("m")[-1]
    assert (last.action, last.by, last.standing.canary) == ("promote", "gate", None)
    assert last.reason == "2.1 hours as the canary, 5 requests at one gateway, 1 of 6 rated conversations disliked"
    await watched.watch.look()
    assert len(watched.promotions.history("m")) == 2


@pytest.mark.parametrize(
    ("long_ago", "requests", "ratings"),
    [(False, REQUESTS, RATINGS), (True, REQUESTS - 1, RATINGS), (True, REQUESTS, RATINGS - 1)],
    ids=["too soon", "too few requests", "too few ratings"],
)
async def test_nothing_less_than_all_of_it_is_enough(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, long_ago: bool, requests: int, ratings: int
) -> None:
    await on_probation(watched, monkeypatch, long_ago=long_ago)
    await watched.rate("m:a", ratings, 0)
    answered(watched, requests)
    assert not await promoted(watched)


async def test_one_that_is_disliked_is_rolled_back_and_not_promoted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await on_probation(watched, monkeypatch)
    await watched.rate("m:a", 1, 3)
    answered(watched, REQUESTS)
    assert not await promoted(watched)
    assert await watched.rolled_back()
    assert not await promoted(watched)


async def test_dislike_of_one_caller_alone_takes_nothing_back_and_promotes_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await on_probation(watched, monkeypatch)
    used = [UsageRecord(key, "m", datetime.now(UTC), 1, 1) for key in ("key-1", "key-2")]
    await watched.store.usage.add(used)
    await watched.rate("m:a", 0, 10, tenant="key-1")
    answered(watched, REQUESTS)
    assert not await promoted(watched)
    assert not await watched.rolled_back()


async def test_one_that_is_made_the_canary_anew_begins_its_probation_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await on_probation(watched, monkeypatch)
    await watched.rate("m:a", RATINGS, 0)
    answered(watched, REQUESTS)
    before = watched.promotions.history("m")[-1]
    made = watched.promotions.canary("m", "a", 0.1, by="operator")
    assert made.standing.canary is not None and made.standing.canary.probation is not None
    assert watched.promotions.graduate("m", before, reason="it was looked at a moment ago") is None
    assert not await promoted(watched)


async def test_a_canary_that_is_not_on_probation_stays_one(watched: Watched) -> None:
    watched.promotions.canary("m", "a", 0.5, by="loop", rules=RULES)
    await watched.rate("m:a", 50, 0)
    answered(watched, 1000)
    assert not await promoted(watched)


async def test_one_that_the_gate_did_not_pass_is_never_promoted_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    watched = Watched(store, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(promotions, "datetime", Clock)
        watched.promotions.canary(
            "m",
            "a",
            0.5,
            by="operator",
            reason="by hand",
            rules=RULES,
            probation=Probation(hours=HOURS, min_requests=1),
        )
    await watched.watch.look()
    await watched.rate("m:a", 20, 0)
    answered(watched, REQUESTS)
    assert not await promoted(watched)
    await store.close()
