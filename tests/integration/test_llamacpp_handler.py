"""What real models say through the llama.cpp handler: text, choices, tools and forms. Without Ray."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from serve.errors import InvalidRequest
from serve.gateway.relay import KeptStream
from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.protocol.chat import ChatCollector, ChatEncoder
from serve.protocol.events import Event, ToolCallDelta, Usage
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.settings.model import ModelSettings
from tests.llamacpp import CAPITAL, COUNT, chat, completion, deltas, events_of, loaded, stream, text, usage

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Tokens of the vocabularies: "<tool_call>" and " Paris".
QWEN_TOOL_CALL = "151657"
SMOLLM2_PARIS = "7042"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
            "required": ["city"],
        },
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smollm2(smollm2_settings: ModelSettings) -> AsyncIterator[LlamaCppHandler]:
    async with loaded(smollm2_settings, context=1024, slots=8) as handler:
        yield handler


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def qwen(qwen_settings: ModelSettings) -> AsyncIterator[LlamaCppHandler]:
    async with loaded(qwen_settings, context=1024, slots=2) as handler:
        yield handler


def calls(events: list[Event]) -> list[ToolCallDelta]:
    return [call for delta in deltas(events) for call in delta.tool_calls]


# What a model says.


async def test_a_chat_is_answered(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, chat(CAPITAL))
    assert "Paris" in text(events)
    assert deltas(events)[-1].finish_reason == "stop"
    assert usage(events).completion_tokens > 1


async def test_a_greedy_answer_is_always_the_same(smollm2: LlamaCppHandler) -> None:
    first = await events_of(smollm2, completion(COUNT))
    assert text(first) == text(await events_of(smollm2, completion(COUNT)))
    assert text(first).startswith(" five six seven")


async def test_a_text_may_begin_from_nothing(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion("", max_tokens=4))
    assert usage(events) == Usage(prompt_tokens=1, completion_tokens=4, cached_tokens=0)


async def test_the_limit_of_tokens_is_kept(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion(COUNT, max_tokens=5))
    assert usage(events).completion_tokens == 5
    assert deltas(events)[-1].finish_reason == "length"


async def test_without_a_limit_an_answer_fills_the_context(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=64, slots=1) as handler:
        request = chat("Count from one to a thousand.", logit_bias={"2": -100, "0": -100})
        sampling = resolve(request, SamplingDefaults(temperature=0))
        events = [event async for found in handler.chat(request, sampling) for event in found]
    assert deltas(events)[-1].finish_reason == "length"
    assert usage(events).prompt_tokens + usage(events).completion_tokens == 64


async def test_a_stop_string_across_tokens_ends_the_text(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion(COUNT, stop=["ix sev"]))
    assert text(events) == " five s"
    assert deltas(events)[-1].finish_reason == "stop"


async def test_every_delta_is_whole_text(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion("🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃", max_tokens=16))
    assert "🙃" in text(events)
    assert all("\N{REPLACEMENT CHARACTER}" not in delta.text for delta in deltas(events))


async def test_a_seed_repeats_what_was_chosen(smollm2_settings: ModelSettings) -> None:
    seeds = [7, 7, 8, None, None]
    async with loaded(smollm2_settings, context=128, slots=1, cache_prompts=False) as handler:
        requests = [completion("Once upon a time", temperature=1.5, seed=seed) for seed in seeds]
        texts = [text(await events_of(handler, request)) for request in requests]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


async def test_each_choice_draws_for_itself(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion("Once upon a time", temperature=1.5, seed=7, n=3))
    texts = [text(events, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert [deltas(events, choice)[-1].finish_reason for choice in range(3)] == ["length"] * 3
    assert usage(events).prompt_tokens == 4
    assert usage(events).completion_tokens == 3 * 24


async def test_greedy_choices_are_alike(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion(COUNT, max_tokens=8, n=2))
    assert text(events, 0) == text(events, 1)


async def test_logprobs_are_those_of_the_model(smollm2: LlamaCppHandler) -> None:
    events = await events_of(smollm2, completion(COUNT, max_tokens=8, logprobs=5, logit_bias={"0": 1}))
    entries = [entry for delta in deltas(events) for entry in delta.logprobs or ()]
    assert "".join(entry.token for entry in entries) == text(events)
    assert len(entries) == 8
    for entry in entries:
        assert len(entry.top) == 5
        assert entry.top[0].token == entry.token
        assert entry.top[0].logprob == entry.logprob
        assert [top.logprob for top in entry.top] == sorted((top.logprob for top in entry.top), reverse=True)
        assert sum(math.exp(top.logprob) for top in entry.top) <= 1.0


async def test_a_banned_token_is_not_used(smollm2: LlamaCppHandler) -> None:
    prompt = "The capital of France is"
    assert text(await events_of(smollm2, completion(prompt, max_tokens=1))) == " Paris"
    banned = await events_of(smollm2, completion(prompt, max_tokens=1, logit_bias={SMOLLM2_PARIS: -100}))
    assert text(banned) != " Paris"


@pytest.mark.parametrize(
    "penalty", [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"repetition_penalty": 1.5}], ids=str
)
async def test_penalties_count_the_prompt(smollm2: LlamaCppHandler, penalty: dict[str, float]) -> None:
    repeated = "yes no " * 6 + "yes"
    assert text(await events_of(smollm2, completion(repeated, max_tokens=1))) == " no"
    assert text(await events_of(smollm2, completion(repeated, max_tokens=1, **penalty))) != " no"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"49152": 1}}, "logit_bias"),
        ({"tools": [WEATHER]}, "tools"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "y"}}}},
         "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
         "response_format.json_schema.schema"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_refused_by_name(
    smollm2: LlamaCppHandler, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await events_of(smollm2, chat(CAPITAL, **fields))
    assert raised.value.param == param


# A larger model: tools and forms.


async def test_an_answer_follows_a_schema(qwen: LlamaCppHandler) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    request = chat("Describe a person.", response_format=wanted, max_tokens=80, temperature=1.5, seed=3)
    found = json.loads(text(await events_of(qwen, request)))
    assert set(found) == {"name", "age"}
    assert isinstance(found["name"], str)
    assert isinstance(found["age"], int)


async def test_an_answer_is_a_json_object(qwen: LlamaCppHandler) -> None:
    request = chat(
        "Give the colours of the French flag as JSON.", response_format={"type": "json_object"}, max_tokens=150
    )
    events = await events_of(qwen, request)
    assert deltas(events)[-1].finish_reason == "stop"
    assert isinstance(json.loads(text(events)), dict)


async def test_a_required_tool_is_called(qwen: LlamaCppHandler) -> None:
    request = chat("What is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=100)
    events = await events_of(qwen, request)
    [call] = calls(events)
    assert call.name == "get_weather"
    assert json.loads(call.arguments)["city"] == "Paris"
    assert text(events) == ""
    assert deltas(events)[-1].finish_reason == "tool_calls"


async def test_the_named_tool_is_called(qwen: LlamaCppHandler) -> None:
    clock = {"type": "function", "function": {"name": "get_time"}}
    named = {"type": "function", "function": {"name": "get_time"}}
    request = chat("What is the weather in Paris?", tools=[WEATHER, clock], tool_choice=named, max_tokens=100)
    assert [(call.name, call.arguments) for call in calls(await events_of(qwen, request))] == [("get_time", "{}")]


async def test_a_call_that_the_model_begins_is_right(qwen: LlamaCppHandler) -> None:
    parameters = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    lamp = {"type": "function", "function": {"name": "switch_lamp", "parameters": parameters}}
    request = chat("Hello.", tools=[lamp], parallel_tool_calls=False, logit_bias={QWEN_TOOL_CALL: 100}, max_tokens=50)
    events = await events_of(qwen, request)
    [call] = calls(events)
    assert set(json.loads(call.arguments)) == {"on"}
    assert deltas(events)[-1].finish_reason == "tool_calls"


ASKED: dict[str, dict[str, Any]] = {
    "text": {},
    "two choices": {"n": 2, "temperature": 1, "seed": 5, "max_tokens": 12},
    "a stop string": {"stop": ["France"]},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "max_tokens": 5},
    "an object": {"response_format": {"type": "json_object"}, "max_tokens": 60},
    "a required call": {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 60},
    "a call cut short": {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 9},
    "calls that it may make": {"tools": [WEATHER], "logit_bias": {QWEN_TOOL_CALL: 100}, "max_tokens": 60},
    "schema beside tools": {
        "tools": [WEATHER],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
        },
        "max_tokens": 60,
    },
}


@pytest.mark.parametrize("fields", ASKED.values(), ids=ASKED.keys())
async def test_a_joined_stream_is_the_answer_without_a_stream(qwen: LlamaCppHandler, fields: dict[str, Any]) -> None:
    request = chat(CAPITAL, **fields)
    encoder, kept = ChatEncoder("m", request.n, include_usage=False), KeptStream()
    async for events in stream(qwen, request):
        kept.feed(encoder.frames(events))
    collector = ChatCollector("m")
    collector.add(await events_of(qwen, request))
    streamed, whole = kept.whole(Usage(0, 0))["choices"], collector.body()["choices"]
    for choice in [*streamed, *whole]:
        for call in choice["message"].get("tool_calls", ()):
            assert call.pop("id").startswith("call_")
    assert streamed == whole


async def test_no_tools_are_shown_when_none_may_be_called(qwen: LlamaCppHandler) -> None:
    plain = await events_of(qwen, chat(CAPITAL))
    request = chat(CAPITAL, tools=[WEATHER], tool_choice="none")
    without = await events_of(qwen, request)
    assert usage(without).prompt_tokens == usage(plain).prompt_tokens
    assert "Paris" in text(without)


async def test_capabilities_come_from_the_model(smollm2: LlamaCppHandler, qwen: LlamaCppHandler) -> None:
    assert not smollm2.capabilities.tools
    assert qwen.capabilities.tools
    assert qwen.capabilities.context == 1024
    assert smollm2.load_now().memory_bytes > 98_000_000
