"""Feedback on stored conversations, on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serve.errors import Conflict, InvalidRequest, NotFound
from serve.store import Conversation, Feedback, Ratings, Store

NOW = datetime(2026, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
async def stored(store: Store) -> Store:
    choices = [{"index": 0, "message": {}}, {"index": 3, "message": {}}]
    for id, tenant in (("chatcmpl-1", "local"), ("chatcmpl-2", "other")):
        await store.conversations.add(Conversation(id, tenant, NOW, "qwen3-8b", {}, list(choices)))
    return store


async def test_feedback_comes_back_as_it_was_given_oldest_first(stored: Store) -> None:
    late = Feedback("fb-1", "chatcmpl-1", "local", NOW + timedelta(seconds=1), rating="down", comment="no 🙁")
    early = Feedback("fb-2", "chatcmpl-1", "local", NOW, choice_index=3, correction="Because of scattering.")
    await stored.feedback.add(late)
    await stored.feedback.add(early)
    assert await stored.feedback.list("chatcmpl-1", "local") == (early, late)


async def test_a_correction_with_nul_is_kept_with_a_replacement_character(stored: Store) -> None:
    await stored.feedback.add(Feedback("fb-1", "chatcmpl-1", "local", NOW, correction="a\x00b", comment="\ud800"))
    (found,) = await stored.feedback.list("chatcmpl-1", "local")
    assert (found.correction, found.comment) == ("a\ufffdb", "\ufffd")


async def test_feedback_on_what_is_not_there_is_not_found_by_name(stored: Store) -> None:
    with pytest.raises(NotFound) as raised:
        await stored.feedback.add(Feedback("fb-1", "gone", "local", NOW, rating="up"))
    assert raised.value.param == "conversation_id"


async def test_feedback_on_another_tenants_conversation_is_not_found(stored: Store) -> None:
    with pytest.raises(NotFound):
        await stored.feedback.add(Feedback("fb-1", "chatcmpl-2", "local", NOW, rating="up"))
    assert await stored.feedback.list("chatcmpl-2", "other") == ()


async def test_the_feedback_on_another_tenants_conversation_cannot_be_listed(stored: Store) -> None:
    await stored.feedback.add(Feedback("fb-1", "chatcmpl-1", "local", NOW, rating="up"))
    with pytest.raises(NotFound):
        await stored.feedback.list("chatcmpl-1", "other")
    with pytest.raises(NotFound):
        await stored.feedback.list("gone", "local")


async def test_feedback_on_a_choice_that_was_not_given_is_refused_by_name(stored: Store) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await stored.feedback.add(Feedback("fb-1", "chatcmpl-1", "local", NOW, choice_index=1, rating="up"))
    assert raised.value.param == "choice_index"


async def test_a_taken_feedback_id_is_a_conflict(stored: Store) -> None:
    feedback = Feedback("fb-1", "chatcmpl-1", "local", NOW, rating="up")
    await stored.feedback.add(feedback)
    with pytest.raises(Conflict):
        await stored.feedback.add(feedback)


async def test_feedback_while_its_conversation_is_deleted_is_stored_or_not_found(stored: Store) -> None:
    for round in range(20):
        id = f"chatcmpl-round-{round}"
        await stored.conversations.add(Conversation(id, "local", NOW, "m", {}, [{"index": 0}]))
        given, deleted = await asyncio.gather(
            stored.feedback.add(Feedback(f"fb-{round}", id, "local", NOW, rating="up")),
            stored.conversations.delete(id, "local"),
            return_exceptions=True,
        )
        assert given is None or isinstance(given, NotFound)
        assert deleted is None


async def test_the_latest_rating_of_each_conversation_counts_for_its_tenant(stored: Store) -> None:
    def said(id: str, conversation: str, tenant: str, second: int, **fields: Any) -> Feedback:
        return Feedback(id, conversation, tenant, NOW + timedelta(seconds=second), **fields)

    for one in (
        said("fb-1", "chatcmpl-1", "local", 1, rating="down"),
        said("fb-2", "chatcmpl-1", "local", 2, rating="up"),
        said("fb-3", "chatcmpl-1", "local", 3, comment="no rating"),
        said("fb-4", "chatcmpl-1", "local", 4, choice_index=3, correction="So it is."),
        said("fb-5", "chatcmpl-2", "other", 5, rating="down"),
    ):
        await stored.feedback.add(one)
    assert await stored.feedback.ratings("qwen3-8b") == {"local": Ratings(0, 1), "other": Ratings(0, 1)}
    assert await stored.feedback.ratings("qwen3-8b", NOW + timedelta(seconds=5)) == {"other": Ratings(0, 1)}
    assert await stored.feedback.ratings("qwen3-8b:tuned") == {}


async def test_ratings_of_answers_that_were_asked_for_by_name_do_not_count(stored: Store) -> None:
    for model, asked in (("m:tuned", "m"), ("m:tuned", "auto"), ("m:tuned", "m:tuned"), ("m", "m:base"), ("m", "m")):
        id = f"chatcmpl-{model}-{asked}"
        await stored.conversations.add(Conversation(id, "local", NOW, model, {"model": asked}, [{"index": 0}]))
        await stored.feedback.add(Feedback(f"fb-{id}", id, "local", NOW, rating="up"))
    assert await stored.feedback.ratings("m:tuned") == {"local": Ratings(2, 0)}
    assert await stored.feedback.ratings("m") == {"local": Ratings(1, 0)}
