"""Reasoning, its budget, tools and schemas on vLLM: a small Qwen3 with random weights, so only forms are tested."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serve.errors import ModelLost
from serve.handlers.vllm.handler import VllmHandler
from serve.protocol.events import Event
from tests.llamacpp import chat, completion, deltas, events_of, stream, text, usage
from tests.vllm import loaded, save_qwen3, settings_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

BUDGET = 12
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"]}
PAINT = {"type": "function", "function": {"name": "paint", "description": "Paint it.", "parameters": COLOUR}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handler(
    qwen_thinking_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VllmHandler]:
    folder: Path = tmp_path_factory.mktemp("qwen3") / "tiny-qwen3"
    await asyncio.to_thread(save_qwen3, folder, qwen_thinking_tokenizer)
    # A random model would write whitespace for ever where its schema allows it.
    compact = {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
    engine = {"extra": compact, "reasoning_parser": "qwen3", "tool_parser": "hermes", "thinking_budget": BUDGET}
    async with loaded(settings_of("thinker", folder, **engine)) as found:
        yield found


def reasoning(events: list[Event], choice: int = 0) -> str:
    return "".join(delta.reasoning for delta in deltas(events, choice))


async def test_it_says_that_it_reasons_and_calls_tools(handler: VllmHandler) -> None:
    assert handler.capabilities.reasoning
    assert handler.capabilities.tools


async def test_reasoning_over_its_budget_is_ended_and_the_answer_begins(
    handler: VllmHandler, qwen_thinking_tokenizer: Any
) -> None:
    events = await events_of(handler, chat("Hello", max_tokens=40))
    assert 0 < len(qwen_thinking_tokenizer.encode(reasoning(events))) <= 2 * BUDGET
    assert text(events)
    assert "think>" not in text(events) + reasoning(events)
    first_answer = next(place for place, delta in enumerate(deltas(events)) if delta.text)
    assert all(not delta.reasoning for delta in deltas(events)[first_answer + 1 :])
    assert usage(events).completion_tokens == 40


async def test_a_request_can_turn_reasoning_off(handler: VllmHandler) -> None:
    events = await events_of(handler, chat("Hello", reasoning_effort="none", max_tokens=20))
    assert reasoning(events) == ""
    assert text(events)


async def test_each_choice_has_a_budget_of_its_own(handler: VllmHandler) -> None:
    events = await events_of(handler, chat("Hello", n=2, temperature=1.0, max_tokens=40))
    assert all(reasoning(events, choice) and text(events, choice) for choice in range(2))


async def test_a_schema_binds_the_answer_and_not_the_reasoning(handler: VllmHandler) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "paint", "schema": COLOUR}}
    events = await events_of(handler, chat("Which?", response_format=wanted, max_tokens=120))
    assert reasoning(events)
    assert json.loads(text(events))["colour"] in ("red", "green")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
async def test_a_forced_call_comes_as_a_call(handler: VllmHandler, qwen_thinking_tokenizer: Any, choice: Any) -> None:
    # Of what the tool's schema allows, a random model likes whitespace best.
    pieces = ['{"name":"paint","arguments":{"colour":"red"}}', "{", "}", '"', '"}', ":", "red", "colour"]
    liked = {token for piece in pieces for token in qwen_thinking_tokenizer.encode(piece)}
    forced = {"tools": [PAINT], "tool_choice": choice, "parallel_tool_calls": False}
    bias = {str(token): 100 for token in liked}
    events = await events_of(handler, chat("Paint!", **forced, logit_bias=bias, max_tokens=150))
    calls = [call for delta in deltas(events) for call in delta.tool_calls]
    assert {call.index for call in calls} == {0}
    assert [call.name for call in calls if call.name] == ["paint"]
    assert [call.id for call in calls if call.id]
    assert set(json.loads("".join(call.arguments for call in calls))) == {"colour"}
    assert deltas(events)[-1].finish_reason == "tool_calls"


async def test_unloading_ends_what_runs_with_an_error(handler: VllmHandler) -> None:
    """The last test here."""
    begun = stream(handler, completion("one", max_tokens=400))
    await anext(begun)
    await handler.unload()
    with pytest.raises(ModelLost):
        async for _ in begun:
            pass
    with pytest.raises(ModelLost):
        await events_of(handler, chat("Hello"))
    await handler.unload()
