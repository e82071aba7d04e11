"""Requests as vLLM's own, without vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import InvalidRequest
from serve.handlers.vllm.request import chat_fields, sampling_fields
from serve.protocol.requests import ChatRequest
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.settings.engines import VllmEngine

TOOL = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TEXT = {"type": "text", "text": "What is it?"}


def fields(engine: VllmEngine | None = None, **request: Any) -> dict[str, Any]:
    raw = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **request}
    parsed = ChatRequest.model_validate(raw)
    sampling = resolve(parsed, SamplingDefaults())
    return chat_fields(parsed, sampling, engine or VllmEngine(), 1000, model="m", pictures=iter(["data:checked"]))


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def test_what_a_request_leaves_open_comes_from_the_models_defaults() -> None:
    found = fields(top_k=3)
    defaults = SamplingDefaults()
    assert (found["temperature"], found["top_p"], found["min_p"], found["top_k"]) == (
        defaults.temperature,
        defaults.top_p,
        defaults.min_p,
        3,
    )


@pytest.mark.parametrize(("asked", "most"), [({}, 1000), ({"max_tokens": 5}, 5), ({"max_tokens": 10**6}, 1000)])
def test_a_limit_is_never_over_the_context(asked: dict[str, Any], most: int) -> None:
    assert fields(**asked)["max_completion_tokens"] == most


def test_a_top_p_of_0_is_one_that_vllm_takes() -> None:
    assert 0 < fields(top_p=0)["top_p"] < 0.001


def test_many_greedy_choices_are_the_likeliest_tokens() -> None:
    found = fields(n=3, temperature=0)
    assert (found["temperature"], found["top_k"]) == (1.0, 1)
    assert fields(temperature=0)["temperature"] == 0


def test_biases_are_by_token() -> None:
    assert fields(logit_bias={"5": -100})["logit_bias"] == {"5": -100.0}
    assert fields()["logit_bias"] is None


def test_log_probabilities_are_asked_for_only_when_wanted() -> None:
    assert (fields()["logprobs"], fields()["top_logprobs"]) == (False, 0)
    wanted = fields(logprobs=True, top_logprobs=4)
    assert (wanted["logprobs"], wanted["top_logprobs"]) == (True, 4)


def test_a_developer_is_the_system_and_text_parts_are_one_text() -> None:
    messages = [{"role": "developer", "content": "Be kind."}, *user(TEXT, {"type": "text", "text": " Say."})]
    assert fields(messages=messages)["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is it? Say."},
    ]


def test_calls_and_their_answers_keep_their_ids() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "paint", "arguments": "{}"}, "index": 0}
    messages = [
        {"role": "user", "content": "Paint"},
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "done", "tool_call_id": "c1"},
    ]
    _, called, answered = fields(messages=messages)["messages"]
    assert called["tool_calls"] == [{key: value for key, value in call.items() if key != "index"}]
    assert called["reasoning_content"] == "hm"
    assert answered == {"role": "tool", "content": "done", "tool_call_id": "c1"}


def test_pictures_stay_where_they_stand_as_what_was_checked() -> None:
    found = fields(VllmEngine(images=1), messages=user(PICTURE, TEXT))["messages"][0]["content"]
    assert found == [{"type": "image_url", "image_url": {"url": "data:checked"}}, TEXT]


def test_tools_need_a_parser() -> None:
    with pytest.raises(InvalidRequest) as raised:
        fields(tools=[TOOL])
    assert raised.value.param == "tools"
    assert "tools" not in fields(tools=[TOOL], tool_choice="none")


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, "auto"),
        ("required", "required"),
        (
            {"type": "function", "function": {"name": "paint"}},
            {"type": "function", "function": {"name": "paint"}},
        ),
    ],
)
def test_the_choice_of_a_tool_is_stated(choice: Any, sent: Any) -> None:
    found = fields(VllmEngine(tool_parser="hermes"), tools=[TOOL], tool_choice=choice)
    assert (found["tool_choice"], found["parallel_tool_calls"]) == (sent, True)


def test_a_schema_goes_under_its_own_name() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    sent = fields(response_format=wanted)["response_format"]
    assert sent["json_schema"]["schema"] == {"type": "object"}
    assert "response_format" not in fields(response_format={"type": "text"})


def test_the_budget_of_reasoning_is_the_models() -> None:
    thinking = VllmEngine(reasoning_parser="qwen3", thinking_budget=64)
    assert fields(thinking)["thinking_token_budget"] == 64
    assert fields()["thinking_token_budget"] is None


def test_text_completions_have_the_same_sampling() -> None:
    sampling = resolve(ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}]}),
                       SamplingDefaults())  # fmt: skip
    assert set(sampling_fields(sampling)) <= set(fields())
