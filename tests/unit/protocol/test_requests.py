"""What OpenAI's requests may hold, and what they may not hold together."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import InvalidRequest
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest, Message, with_system_prompt
from serve.protocol.validation import parse_request

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> ChatRequest:
    """A chat request with these fields."""
    return parse_request(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "min_p": 0, "top_k": 0, "seed": -(2**63), "n": 16},
        {"stop": "END"},
        {"stop": ["a"] * 16},
        {"stop": None, "tools": None, "metadata": None, "response_format": None, "temperature": None},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"logprobs": True, "top_logprobs": 20},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
        {"logit_bias": {"50256": -100}},
        {"user": "me", "service_tier": "auto", "modalities": ["text"], "verbosity": "low"},
        {"store": True, "metadata": {"k" * 64: "v" * 512}},
        {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_what_clients_send_is_taken(fields: dict[str, Any]) -> None:
    chat(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"top_logprobs": 0}, "needs logprobs"),
        ({"stream_options": {"include_usage": True}}, "only allowed when stream is true"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"tool_choice": {"function": {"name": "f"}}}, "needs tools"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "g"}}}, "names 'g', which is not in tools"),
        ({"logit_bias": {"x": 1}}, "'x', which is not a token id"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        chat(**fields)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": ""},
        {"role": "developer", "content": "a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "5"},
        {
            "role": "assistant",
            "content": "a",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
        },
        {"role": "user", "content": [], "name": "me"},
    ],
)
def test_messages_of_every_role_are_taken(message: dict[str, Any]) -> None:
    assert chat(messages=[message]).messages[0].role == message["role"]


def test_what_a_model_answered_can_be_sent_back_to_it() -> None:
    answered = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}],
    }
    assert chat(messages=[answered]).messages[0].tool_calls


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": None}, "content is required"),
        ({"role": "user", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}, "content is"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "content is required"),
        ({"role": "tool", "content": "5"}, "needs tool_call_id"),
    ],
)
def test_a_message_that_says_nothing_is_refused(message: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        chat(messages=[message])


def test_a_message_gives_its_text_and_its_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    parts = [{"type": "text", "text": "a "}, picture, {"type": "text", "text": "b"}]
    message = Message.model_validate({"role": "user", "content": parts})
    assert message.text() == "a b"
    assert [image.image_url.url for image in message.images()] == ["data:image/png;base64,AA=="]


def test_a_plain_message_has_its_text_and_no_picture() -> None:
    assert Message(role="user", content="a").text() == "a"
    assert Message(role="user", content="a").images() == []


def test_the_newer_name_of_the_token_limit_goes_before_the_older() -> None:
    assert chat(max_tokens=5).token_limit == 5
    assert chat(max_tokens=5, max_completion_tokens=7).token_limit == 7
    assert chat().token_limit is None


def test_a_models_system_prompt_is_put_before_a_conversation_that_has_none() -> None:
    request = with_system_prompt(chat(temperature=0.5), "Be kind.")
    assert [(one.role, one.content) for one in request.messages] == [("system", "Be kind."), ("user", "Hi")]
    assert request.temperature == 0.5
    assert len(chat().messages) == 1


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_conversations_own_system_message_is_left_alone(role: str) -> None:
    request = chat(messages=[{"role": "user", "content": "a"}, {"role": role, "content": "b"}])
    assert with_system_prompt(request, "Be kind.") is request
    assert with_system_prompt(request, None) is request


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        chat().model = "other"  # type: ignore[misc]


def test_a_prompt_is_one_text_or_a_list_of_one() -> None:
    assert parse_request(CompletionRequest, {"model": "m", "prompt": "a"}).text == "a"
    assert parse_request(CompletionRequest, {"model": "m", "prompt": ["a"]}).text == "a"
    for prompt in ([], ["a", "b"], [1, 2], None):
        with pytest.raises(InvalidRequest):
            parse_request(CompletionRequest, {"model": "m", "prompt": prompt})


@pytest.mark.parametrize("fields", [{"echo": True}, {"suffix": "a"}, {"best_of": 2}, {"logprobs": 21}])
def test_what_no_handler_can_do_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_request(CompletionRequest, {"model": "m", "prompt": "a"} | fields)
    assert raised.value.param == next(iter(fields))


def test_texts_to_embed_are_one_or_a_list() -> None:
    assert parse_request(EmbeddingRequest, {"model": "m", "input": "a"}).texts == ["a"]
    assert parse_request(EmbeddingRequest, {"model": "m", "input": ["a", "b"]}).texts == ["a", "b"]
    for texts in ([], ["a"] * 2049):
        with pytest.raises(InvalidRequest):
            parse_request(EmbeddingRequest, {"model": "m", "input": texts})


def test_a_field_that_is_null_counts_as_absent() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    nulls = dict.fromkeys(("stream", "n", "logprobs", "temperature", "stop", "tools"))
    assert ChatRequest.model_validate(asked | nulls) == ChatRequest.model_validate(asked)


@pytest.mark.parametrize(
    ("model", "adapter"), [("m", None), ("m:a", "a"), ("m:", ""), ("m:a:b", "a:b"), (":a", "a"), ("auto", None)]
)
def test_what_follows_the_first_colon_of_the_model_is_an_adapter(model: str, adapter: str | None) -> None:
    assert chat(model=model).adapter == adapter
    assert parse_request(CompletionRequest, {"model": model, "prompt": "Hi"}).adapter == adapter
