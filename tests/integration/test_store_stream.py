"""All conversations with their feedback, in batches, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serve.store import Conversation, Feedback, Store

NOW = datetime(2026, 5, 17, tzinfo=UTC)


@pytest.fixture
async def stored(store: Store) -> Store:
    for number in range(7):
        # Two at each time: pages go on within one.
        moment = NOW + timedelta(seconds=number // 2)
        tenant, model = ("local", "other")[number % 2], ("small", "large")[number // 4]
        conversation = Conversation(f"c{number}", tenant, moment, model, {"n": number}, [{"index": 0, "message": {}}])
        await store.conversations.add(conversation)
    return store


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
async def test_every_conversation_comes_once_oldest_first(stored: Store, batch: int) -> None:
    assert [one.id async for one, _ in stored.stream(batch=batch)] == [f"c{number}" for number in range(7)]


async def test_feedback_comes_with_its_conversation_oldest_first(stored: Store) -> None:
    late = Feedback("f1", "c1", "other", NOW + timedelta(seconds=1), rating="up")
    early = Feedback("f2", "c1", "other", NOW, comment="hm")
    await stored.feedback.add(late)
    await stored.feedback.add(early)
    found = {one.id: feedback async for one, feedback in stored.stream(batch=2)}
    assert found.pop("c1") == (early, late)
    assert set(found.values()) == {()}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"tenant": "other"}, ["c1", "c3", "c5"]),
        ({"tenant": "nobody"}, []),
        ({"model": "large"}, ["c4", "c5", "c6"]),
        ({"since": NOW + timedelta(seconds=2)}, ["c4", "c5", "c6"]),
        ({"until": NOW + timedelta(seconds=1)}, ["c0", "c1"]),
    ],
)
async def test_filters_leave_out_the_others(stored: Store, wanted: dict[str, Any], expected: list[str]) -> None:
    assert [one.id async for one, _ in stored.stream(batch=2, **wanted)] == expected
