"""The vLLM handler on a real model: SmolLM2-135M as a float32 checkpoint, on the processor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import jsonschema
import psutil
import pytest
import pytest_asyncio

from serve.errors import AdapterNotFound, AdapterRefused, ContextLengthExceeded, InvalidRequest, ModelLost
from serve.handlers.vllm.handler import VllmHandler
from tests.llamacpp import CAPITAL, COUNT, chat, completion, deltas, events_of, stream, text, until, usage
from tests.vllm import loaded, save_adapter, settings_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handler(smollm2_checkpoint: Path) -> AsyncIterator[VllmHandler]:
    async with loaded(settings_of("smol", smollm2_checkpoint, adapters=2, max_lora_rank=8)) as found:
        yield found


async def test_it_says_what_it_can_do(handler: VllmHandler) -> None:
    found = handler.capabilities
    assert (found.chat, found.completion, found.structured_output, found.logprobs) == (True, True, True, True)
    assert (found.tools, found.vision, found.reasoning, found.context) == (False, False, False, 512)
    assert handler.load_now().memory_bytes > 500_000_000


async def test_it_answers_and_counts_tokens(handler: VllmHandler) -> None:
    events = await events_of(handler, chat(CAPITAL))
    assert "Paris" in text(events)
    assert deltas(events)[-1].finish_reason == "stop"
    assert usage(events).prompt_tokens == 27
    assert usage(events).completion_tokens == len(deltas(events))


async def test_it_continues_a_text(handler: VllmHandler) -> None:
    events = await events_of(handler, completion(COUNT, max_tokens=6))
    assert text(events).startswith(" five six")
    assert (deltas(events)[-1].finish_reason, usage(events).completion_tokens) == ("length", 6)


async def test_a_stop_string_ends_the_answer_and_is_not_in_it(handler: VllmHandler) -> None:
    events = await events_of(handler, completion(COUNT, stop=[" eight"]))
    assert text(events).endswith(" seven")
    assert deltas(events)[-1].finish_reason == "stop"


async def test_choices_differ_and_come_again_with_the_same_seed(handler: VllmHandler) -> None:
    request = chat("Tell me a story.", n=3, seed=7, temperature=1.5, max_tokens=12)
    first, again = await events_of(handler, request), await events_of(handler, request)
    stories = [text(first, choice) for choice in range(3)]
    assert stories == [text(again, choice) for choice in range(3)]
    assert len(set(stories)) == 3
    assert usage(first).completion_tokens == sum(len(deltas(first, choice)) for choice in range(3))


async def test_log_probabilities_are_of_the_tokens_that_were_said(handler: VllmHandler) -> None:
    events = await events_of(handler, chat(CAPITAL, logprobs=True, top_logprobs=2))
    said = [one for delta in deltas(events) for one in delta.logprobs or ()]
    assert "".join(one.token for one in said).startswith(text(events))
    for one in said:
        assert len(one.top) == 2
        assert one.top[0].logprob == one.logprob <= 0  # greedy
        assert one.top[0].logprob >= one.top[1].logprob


async def test_an_answer_follows_its_schema(handler: VllmHandler) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    events = await events_of(handler, chat("Tell me about Ada, who is 36.", response_format=wanted, max_tokens=60))
    jsonschema.validate(json.loads(text(events)), PERSON)


async def test_any_object_is_an_object(handler: VllmHandler) -> None:
    asked = chat("Write JSON: a city and its country.", response_format={"type": "json_object"}, max_tokens=80)
    assert isinstance(json.loads(text(await events_of(handler, asked))), dict)


async def test_a_schema_that_is_none_is_the_requests_fault(handler: VllmHandler) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "unheard-of"}}}
    with pytest.raises(InvalidRequest):
        await events_of(handler, chat("Hello", response_format=wanted))
    assert "Paris" in text(await events_of(handler, chat(CAPITAL)))


@pytest.mark.parametrize("words", [600, 100_000])
async def test_a_prompt_over_the_context_is_the_requests_fault(handler: VllmHandler, words: int) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await events_of(handler, chat("word " * words))
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")


async def test_a_prompt_that_fills_the_context_leaves_no_room_for_an_answer(handler: VllmHandler) -> None:
    with pytest.raises(ContextLengthExceeded):
        await events_of(handler, completion("word" + " word" * 511))
    events = await events_of(handler, completion("word" + " word" * 510))
    assert (usage(events).prompt_tokens, usage(events).completion_tokens) == (511, 1)


async def test_a_limit_over_the_context_ends_with_the_context(handler: VllmHandler) -> None:
    events = await events_of(handler, completion("word" + " word" * 499, max_tokens=100_000))
    assert usage(events).completion_tokens <= 12


async def test_a_prompt_that_begins_alike_is_not_read_again(handler: VllmHandler) -> None:
    begin = "The numbers are " + ", ".join(map(str, range(100)))
    await events_of(handler, completion(begin, max_tokens=1))
    assert usage(await events_of(handler, completion(begin + " and on", max_tokens=1))).cached_tokens >= 128


async def test_closing_a_stream_stops_the_engines_work_on_it(handler: VllmHandler) -> None:
    left = stream(handler, completion("one two", max_tokens=400, temperature=1.0, logit_bias={"2": -100}))
    await anext(left)
    await left.aclose()
    # The next step of the engine, which another request brings about, knows of that request alone.
    other = stream(handler, completion("one two", max_tokens=50, logit_bias={"2": -100}))
    await anext(other)
    await anext(other)
    assert handler.load_now().active == 1
    await other.aclose()


async def test_cancelling_the_task_stops_the_engines_work(handler: VllmHandler) -> None:
    task = asyncio.create_task(events_of(handler, completion("one two", max_tokens=400, logit_bias={"2": -100})))
    await until(lambda: handler.load_now().active == 1)
    task.cancel()
    await asyncio.wait([task])
    assert handler._library is not None
    assert handler._library.unfinished == 0


async def test_streams_at_once_say_what_each_says_alone(handler: VllmHandler) -> None:
    asked = [completion(f"{word} two three four", max_tokens=8) for word in ("one", "zwei", "trois", "Ünïcode 😀")]
    alone = [text(await events_of(handler, one)) for one in asked]
    together = await asyncio.gather(*(events_of(handler, one) for one in asked * 3))
    assert [text(events) for events in together] == alone * 3


async def test_more_than_the_slots_and_the_queue_is_refused(smollm2_checkpoint: Path, handler: VllmHandler) -> None:
    assert handler.settings.max_queued + 8 == 72
    request = completion("one", max_tokens=4, n=16, logit_bias={"2": -100})
    found = await asyncio.gather(*(events_of(handler, request) for _ in range(6)), return_exceptions=True)
    refused = [one for one in found if isinstance(one, BaseException)]
    assert {type(one).__name__ for one in refused} == {"QueueFull"}
    assert len(refused) == 2


async def test_an_adapter_answers_under_its_name_and_the_base_stays(
    handler: VllmHandler, smollm2_checkpoint: Path, tmp_path: Path
) -> None:
    base = text(await events_of(handler, chat(CAPITAL)))
    await handler.add_adapter("odd", save_adapter(tmp_path / "odd", smollm2_checkpoint))
    odd, plain = await asyncio.gather(
        events_of(handler, chat(CAPITAL).model_copy(update={"model": "smol:odd"})), events_of(handler, chat(CAPITAL))
    )
    assert text(odd) != base == text(plain)
    words = completion("one two three four").model_copy(update={"model": "smol:odd"})
    assert text(await events_of(handler, words)) != text(await events_of(handler, completion("one two three four")))
    await handler.remove_adapter("odd")
    with pytest.raises(AdapterNotFound, match="odd"):
        await events_of(handler, chat(CAPITAL).model_copy(update={"model": "smol:odd"}))


async def test_an_adapter_with_the_name_of_another_does_not_inherit_its_cache(
    handler: VllmHandler, smollm2_checkpoint: Path, tmp_path: Path
) -> None:
    asked = completion("The numbers are " + ", ".join(map(str, range(100))), max_tokens=1)
    asked = asked.model_copy(update={"model": "smol:odd"})
    for rank in (8, 4):
        await handler.add_adapter("odd", save_adapter(tmp_path / str(rank), smollm2_checkpoint, rank=rank))
        assert usage(await events_of(handler, asked)).cached_tokens == 0
        assert usage(await events_of(handler, asked)).cached_tokens >= 128
        await handler.remove_adapter("odd")


async def test_a_bad_adapter_is_refused_and_others_go_on(
    handler: VllmHandler, smollm2_checkpoint: Path, tmp_path: Path
) -> None:
    await handler.add_adapter("good", save_adapter(tmp_path / "good", smollm2_checkpoint))
    with pytest.raises(AdapterRefused, match="rank is 16"):
        await handler.add_adapter("high", save_adapter(tmp_path / "high", smollm2_checkpoint, rank=16))
    with pytest.raises(AdapterRefused, match="made for 64 numbers, and the model has 576"):
        await handler.add_adapter("other", save_adapter(tmp_path / "other", smollm2_checkpoint, hidden=64))
    with pytest.raises(AdapterRefused, match="not an adapter"):
        await handler.add_adapter("none", tmp_path / "none")
    await handler.add_adapter("second", save_adapter(tmp_path / "second", smollm2_checkpoint, rank=4))
    with pytest.raises(AdapterRefused, match="at most 2"):
        await handler.add_adapter("third", save_adapter(tmp_path / "third", smollm2_checkpoint))
    await handler.check()
    assert text(await events_of(handler, chat(CAPITAL).model_copy(update={"model": "smol:good"})))
    assert "Paris" in text(await events_of(handler, chat(CAPITAL)))


async def test_an_engine_that_is_killed_ends_what_it_began_and_says_so_to_the_rest(handler: VllmHandler) -> None:
    """The last test here: the engine does not come back."""
    begun = stream(handler, completion("one two", max_tokens=400, logit_bias={"2": -100}))
    await anext(begun)
    [engine] = [one for one in psutil.Process().children(recursive=True) if "EngineCore" in one.name()]
    engine.kill()
    with pytest.raises(ModelLost):
        async for _ in begun:
            pass
    with pytest.raises(ModelLost):
        await events_of(handler, chat(CAPITAL))
    with pytest.raises(Exception, match="EngineCore"):
        await handler.check()
