"""The row: what it refuses, and that it survives its own JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from train.dataset.rows import MAX_MESSAGE_CHARS, MAX_MESSAGES, Message, Provenance, Row, content_digest

USER = {"role": "user", "content": "Capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris."}
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": ""}


def row(*messages: dict[str, Any], **fields: Any) -> Row:
    return Row(
        id="openai:1",
        source="openai",
        messages=tuple(Message.model_validate_json(json.dumps(message)) for message in messages),
        provenance=Provenance(**fields),
    )


def fault(*messages: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        row(*messages)
    return str(raised.value.errors()[0]["type"])


def test_a_row_comes_back_from_its_line_as_it_was() -> None:
    moment = datetime(2026, 5, 17, 12, 30, tzinfo=UTC)
    one = row(USER, CALLS, RESULT, ANSWER, times=(moment, None, None, None), dropped={"hidden_message": 1})
    line = one.to_json()
    assert line.count(b"\n") == 1
    assert Row.from_json(line) == one


def test_a_message_that_only_calls_has_null_content_in_json_and_no_other_null() -> None:
    assert b'"content":null' in row(USER, CALLS).to_json()
    assert row(USER, CALLS).to_json().count(b"null") == 1


@pytest.mark.parametrize(
    ("messages", "type"),
    [
        ([], "empty"),
        ([USER], "no_answer"),
        ([ANSWER], "no_answer"),
        ([USER, ANSWER, {"role": "system", "content": "Be brief."}], "bad_roles"),
        ([USER, USER, ANSWER], "bad_roles"),
        ([USER, ANSWER, ANSWER], "bad_roles"),
        ([USER, CALLS, USER, ANSWER], "bad_tool_calls"),
        ([USER, RESULT, ANSWER], "bad_tool_calls"),
        ([USER, CALLS, RESULT, RESULT, ANSWER], "bad_tool_calls"),
        ([USER, CALLS, RESULT, CALLS, RESULT, ANSWER], "bad_tool_calls"),
        ([USER, {**CALLS, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, RESULT], "bad_tool_calls"),
        ([USER, ANSWER] * (MAX_MESSAGES // 2 + 1), "row_size"),
        ([USER, {**ANSWER, "content": ""}], "bad_message"),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "bad_message"),
        ([USER, {**RESULT, "tool_call_id": None}, ANSWER], "bad_message"),
        ([{**USER, "content": "a" * (MAX_MESSAGE_CHARS + 1)}, ANSWER], "message_size"),
    ],
)
def test_what_makes_no_conversation_is_refused_with_its_kind(messages: list[dict[str, Any]], type: str) -> None:
    assert fault(*messages) == type


def test_a_conversation_may_end_in_a_call_and_begin_with_the_assistant() -> None:
    assert row(ANSWER, USER, CALLS).messages[-1].tool_calls is not None


def test_a_fault_never_shows_what_was_said() -> None:
    with pytest.raises(ValidationError) as raised:
        Message(role="user", content="private words", tool_call_id="x")
    assert "private" not in str(raised.value)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError):
        Row.from_json(row(USER, ANSWER).to_json().replace(b'"source"', b'"sauce"'))


def test_times_are_as_many_as_messages() -> None:
    with pytest.raises(ValidationError):
        row(USER, ANSWER, times=(None,))


def test_equal_conversations_have_equal_digests_and_others_have_not() -> None:
    one, same, other = row(USER, ANSWER), row(USER, ANSWER, title="x"), row(USER, {**ANSWER, "content": "paris."})
    assert content_digest(one.messages) == content_digest(same.messages)
    assert content_digest(one.messages) != content_digest(other.messages)
    assert content_digest(one.messages) != content_digest(one.messages, rejected=other.messages)
