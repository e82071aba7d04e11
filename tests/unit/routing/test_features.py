"""What a request is like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.routing.features import Features, features_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url"]) | st.text(), inner, max_size=3
        )
    ),
)


def user(*texts: str) -> dict[str, Any]:
    """A request with these user messages."""
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def test_a_request_is_measured_over_all_messages_and_read_in_the_last_of_the_user() -> None:
    request = user("first", "second")
    request["messages"] += [{"role": "assistant", "content": "third"}]
    assert features_of(request) == Features(
        last_user_text="second",
        prompt_chars=16,
        messages=3,
        code=False,
        tools=False,
        structured_output=False,
        vision=False,
    )


@pytest.mark.parametrize(
    "text",
    [
        "Write a Python program",
        "```\nx\n```",
        "def add(a, b):",
        "import os; print(os.name)",
        "SELECT name FROM users;",
        "why does this traceback appear",
        "explain this c++ template",
        "#include <stdio.h>",
        "make unit tests for it",
        "PYTHON",
    ],
)
def test_a_message_that_holds_or_asks_for_code_is_seen(text: str) -> None:
    assert features_of(user(text)).code


@pytest.mark.parametrize(
    "text", ["", "What is the capital of France?", "the import of tea", "a class of its own", "👩"]
)
def test_plain_talk_is_not_taken_for_code(text: str) -> None:
    assert not features_of(user(text)).code


def test_only_the_last_user_message_decides_about_code() -> None:
    assert not features_of(user("write a program", "thank you")).code


def test_a_word_of_code_counts_only_with_its_punctuation_near() -> None:
    # To look further from each of many such words would take seconds.
    assert features_of(user(f"return {'x' * 100};")).code
    assert not features_of(user(f"return {'x' * 300};")).code


def test_only_the_beginning_of_a_long_message_is_searched_for_code() -> None:
    assert features_of(user(f"{'hello ' * 3000} python")).code
    assert not features_of(user(f"{'hello ' * 4000} python")).code


def test_a_text_prompt_counts_as_the_users_text() -> None:
    found = features_of({"prompt": "write a program"})
    assert (found.last_user_text, found.prompt_chars, found.messages, found.code) == ("write a program", 15, 0, True)


def test_text_parts_are_joined_and_pictures_are_seen() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "b"},
    ]
    found = features_of({"messages": [{"role": "user", "content": parts}]})
    assert (found.last_user_text, found.vision) == ("ab", True)


@pytest.mark.parametrize(
    ("fields", "tools", "structured"),
    [
        ({"tools": [{}]}, True, False),
        ({"tools": []}, False, False),
        ({"response_format": {"type": "json_object"}}, False, True),
        ({"response_format": {"type": "json_schema"}}, False, True),
        ({"response_format": {"type": "text"}}, False, False),
    ],
)
def test_tools_and_json_are_seen(fields: dict[str, Any], tools: bool, structured: bool) -> None:
    found = features_of(user("a") | fields)
    assert (found.tools, found.structured_output) == (tools, structured)


@given(JSON, JSON, JSON)
def test_a_malformed_request_has_features_all_the_same(messages: Any, prompt: Any, wanted: Any) -> None:
    found = features_of({"messages": messages, "prompt": prompt, "response_format": wanted, "tools": prompt})
    assert found.prompt_chars >= len(found.last_user_text)
