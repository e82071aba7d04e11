"""From a body to a typed request, or to an error that names the field at fault."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InvalidRequest
from serve.protocol.requests import ChatRequest, EmbeddingRequest
from serve.protocol.validation import parse_json, parse_request

USER = {"role": "user", "content": "Hi"}


def refused(fields: dict[str, Any]) -> InvalidRequest:
    """The error for a chat request with these fields beside a right model and message."""
    with pytest.raises(InvalidRequest) as raised:
        parse_request(ChatRequest, {"model": "m", "messages": [USER]} | fields)
    return raised.value


def refused_part(part: object) -> InvalidRequest:
    """The error for a message with this content part."""
    return refused({"messages": [USER, {"role": "user", "content": [{"type": "text", "text": "a"}, part]}]})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1,}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": 01}',
        b'{"a": 1} {"b": 2}',
        b'\xef\xbb\xbf{"a": 1}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"\x00",
    ],
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_json(body)
    assert raised.value.code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true", b'[{"model": "m"}]'])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse_json(body)


@given(st.binary(max_size=40))
def test_no_body_breaks_the_parser(body: bytes) -> None:
    try:
        assert isinstance(parse_json(body), dict)
    except InvalidRequest as error:
        assert error.status == 400


def test_an_error_about_json_does_not_repeat_the_body() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_json(b'{"model": "m", "messages": "my private words"')
    assert "private" not in raised.value.message


def test_a_whole_number_of_any_size_is_read() -> None:
    assert parse_json(b'{"a": 9223372036854775807}') == {"a": 2**63 - 1}
    assert parse_json(b'{"a": ' + b"9" * 300 + b"}") == {"a": pytest.approx(1e300)}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "robot", "content": "a"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0].tool_calls[0].function"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"hello": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"tools": [{"function": {"name": "two words"}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"function": {}}}, "tool_choice.function.name"),
        ({"stream_options": {"include_usage": []}, "stream": True}, "stream_options.include_usage"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {}}, "stream_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"store": "true"}, "store"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert error.param == param
    assert param in error.message or "." not in param
    assert error.status == 400


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"type": "text"}, ".text"),
        ({"type": "text", "text": 5}, ".text"),
        ({"type": "audio", "audio": "a"}, ""),
        ({"text": "a"}, ""),
        ({"type": "image_url", "image_url": {}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": 5}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "a", "detail": "huge"}}, ".image_url.detail"),
        ({"type": "image_url", "image_url": {"url": "a", "image_url": "b"}}, ".image_url.image_url"),
        ({"type": "text", "text": "a", "colour": "red"}, ".colour"),
        ({"type": "image_url", "image_url": {"url": "a"}, "detail": "high"}, ".detail"),
    ],
)
def test_a_fault_in_a_content_part_is_named_without_the_names_of_types(part: object, path: str) -> None:
    error = refused_part(part)
    assert error.param == f"messages[1].content[1]{path}"
    assert "TextPart" not in error.message and "tagged-union" not in error.message


def test_a_missing_field_is_said_to_be_missing() -> None:
    with pytest.raises(InvalidRequest, match=r"^messages: this field is required\.$") as raised:
        parse_request(ChatRequest, {"model": "m"})
    assert raised.value.code == "missing_parameter"


def test_an_unknown_field_is_told_with_the_nearest_one() -> None:
    error = refused({"temprature": 1})
    assert (error.param, error.code) == ("temprature", "unknown_parameter")
    assert "did you mean 'temperature'?" in error.message
    assert len(error.message) < 100


def test_an_unknown_field_far_from_any_is_told_alone() -> None:
    assert refused({"xyzzy": 1}).message == "xyzzy: unknown key."


def test_an_unknown_field_deep_inside_is_told_with_its_path() -> None:
    error = refused({"tools": [{"function": {"name": "f", "params": {}}}]})
    assert (error.param, error.code) == ("tools[0].function.params", "unknown_parameter")


def test_of_several_faults_the_deepest_is_told() -> None:
    assert refused({"temperature": 5, "messages": [{"role": "user", "content": [{"type": "text"}]}]}).param == (
        "messages[0].content[0].text"
    )


def test_an_error_does_not_repeat_what_was_written() -> None:
    error = refused({"messages": [{"role": "user", "content": {"private": "words"}}], "user": ["private"]})
    assert "private" not in error.message


def test_an_embedding_request_of_numbers_is_refused_by_the_place() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_request(EmbeddingRequest, {"model": "m", "input": ["a", 5]})
    assert raised.value.param == "input[1]"
