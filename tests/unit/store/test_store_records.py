"""The store's plain data."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serve.errors import InvalidRequest
from serve.store import Conversation, Feedback, Key, NewKey, Scope, UsageRecord

NOW = datetime(2026, 5, 17, tzinfo=UTC)
NAIVE = datetime(2026, 5, 17)


def key(**changes: Any) -> Key:
    fields: dict[str, Any] = {
        "id": "key_1",
        "name": "page",
        "prefix": "gq-abcde",
        "scopes": frozenset({Scope.INFERENCE}),
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "created_at": NOW,
        "expires_at": None,
        "revoked_at": None,
    }
    return Key(**(fields | changes))


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        key().name = "other"  # type: ignore[misc]


def test_no_record_shows_private_text_when_printed() -> None:
    private = "private words"
    shown = [
        NewKey(key(), private),
        Conversation("c", "local", NOW, "m", {"a": private}, [{"a": private}], metadata={private: private}),
        Feedback("f", "c", "local", NOW, correction=private, comment=private),
    ]
    assert private not in repr(shown)


@pytest.mark.parametrize("given", [{"rating": "up"}, {"rating": "down"}, {"correction": "a"}, {"comment": "a"}])
def test_any_one_of_rating_correction_and_comment_is_feedback(given: dict[str, Any]) -> None:
    Feedback("f", "c", "local", NOW, **given)


@pytest.mark.parametrize("given", [{}, {"correction": ""}, {"comment": "", "correction": ""}, {"rating": "maybe"}])
def test_feedback_that_says_nothing_known_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Feedback("f", "c", "local", NOW, **given)
    assert raised.value.param == "rating"


def test_a_time_without_a_zone_is_refused_in_every_record() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Conversation("c", "local", NAIVE, "m", {}, [])
    with pytest.raises(ValueError, match="time zone"):
        Feedback("f", "c", "local", NAIVE, rating="up")
    with pytest.raises(ValueError, match="time zone"):
        UsageRecord("key_1", "m", NAIVE, 1, 1)


def test_a_key_is_valid_until_it_is_revoked_or_its_time_has_come() -> None:
    second = timedelta(seconds=1)
    assert key().valid(NOW)
    assert key(expires_at=NOW + second).valid(NOW)
    assert not key(expires_at=NOW).valid(NOW)
    assert not key(revoked_at=NOW).valid(NOW)
    assert not key(revoked_at=NOW, expires_at=NOW + second).valid(NOW)
