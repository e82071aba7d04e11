"""Many requests at once on the llama.cpp handler: slots, queue, cached prompts, refusals, giving up. Without Ray."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve.errors import ContextLengthExceeded, InternalError, InvalidRequest, QueueFull, Unavailable
from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.handlers.llamacpp.model import Model
from serve.protocol.events import Event
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings
from tests.llamacpp import CAPITAL, COUNT, chat, completion, events_of, loaded, stream, text, until, usage

# Many at once.


async def test_eight_streams_move_together(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=256, slots=8) as handler:
        order: list[int] = []

        async def follow(number: int) -> str:
            found: list[Event] = []
            async for events in stream(handler, completion(f"{number}. {COUNT}")):
                order.append(number)
                found += events
            return text(found)

        assert all(await asyncio.gather(*(follow(number) for number in range(8))))
        # No stream has ended before every stream has begun.
        last_events = [len(order) - 1 - order[::-1].index(number) for number in range(8)]
        assert set(order[: min(last_events)]) == set(range(8))


async def test_together_they_say_what_they_say_alone(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=256, slots=4) as handler:
        requests: list[ChatRequest | CompletionRequest] = [
            completion(COUNT, max_tokens=8),
            chat(CAPITAL),
            completion("The capital of France is", max_tokens=1),
        ]
        alone = [text(await events_of(handler, request)) for request in requests]
        together = await asyncio.gather(*(events_of(handler, request) for request in requests))
        assert [text(events) for events in together] == alone


async def test_a_long_prompt_does_not_stop_running_streams(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=1024, slots=2, prompt_chunk=64) as handler:
        running = stream(handler, completion(COUNT, max_tokens=500))
        await anext(running)
        long = asyncio.ensure_future(events_of(handler, completion("word " * 600, max_tokens=1)))
        moved = 0
        while not long.done():
            await anext(running)
            moved += 1
        await running.aclose()
    assert moved >= 600 // 64


async def test_a_request_waits_for_a_free_slot(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=256, slots=1) as handler:
        answers = await asyncio.gather(*(events_of(handler, completion(COUNT, max_tokens=4)) for _ in range(4)))
    assert len({text(events) for events in answers}) == 1


async def test_more_choices_than_slots_take_turns(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=256, slots=2) as handler:
        events = await events_of(handler, completion(COUNT, max_tokens=4, n=5))
    assert len({text(events, choice) for choice in range(5)}) == 1
    assert usage(events).completion_tokens == 20


# The cache of prompts.


async def test_a_cached_beginning_changes_nothing_but_the_work(smollm2_settings: ModelSettings) -> None:
    async def twice(**engine: Any) -> list[list[Event]]:
        async with loaded(smollm2_settings, context=512, slots=2, **engine) as handler:
            return [await events_of(handler, completion(COUNT * 4, max_tokens=12)) for _ in range(2)]

    without = await twice(cache_prompts=False)
    first, second = await twice(cache_prompts=True)
    assert {text(events) for events in (*without, first, second)} == {text(first)}
    assert [usage(events).cached_tokens for events in (*without, first)] == [0, 0, 0]
    assert usage(second).cached_tokens == usage(second).prompt_tokens - 1


async def test_a_conversation_goes_on_from_its_cache(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=2) as handler:
        answer = text(await events_of(handler, chat(CAPITAL)))
        longer = [*CAPITAL, {"role": "assistant", "content": answer}, {"role": "user", "content": "And of Spain?"}]
        events = await events_of(handler, chat(longer))
    assert usage(events).cached_tokens > 30


async def test_a_common_beginning_of_requests_at_once_is_processed_once(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=4, batch=64) as handler:
        prompts = [f"{COUNT * 10} {number}" for number in range(4)]
        answers = await asyncio.gather(*(events_of(handler, completion(prompt)) for prompt in prompts))
    cached = sorted(usage(events).cached_tokens for events in answers)
    assert cached[0] == 0
    assert all(tokens > 90 for tokens in cached[1:])


# Errors.


async def test_a_prompt_that_does_not_fit_is_refused_before_it_waits(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=64, slots=1) as handler:
        with pytest.raises(ContextLengthExceeded) as raised:
            await events_of(handler, chat("word " * 100))
        assert raised.value.param == "messages"
        with pytest.raises(ContextLengthExceeded, match="64 tokens, but the prompt has 64") as raised:
            await events_of(handler, completion(" word" * 64))
        assert raised.value.param == "prompt"
        assert usage(await events_of(handler, completion(" word" * 63))).completion_tokens == 1


async def test_a_full_queue_refuses_more(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, max_queued=1, context=256, slots=1) as handler:
        running, waiting = (stream(handler, completion(COUNT, max_tokens=200)) for _ in range(2))
        await anext(running)
        queued = asyncio.ensure_future(anext(waiting))
        await until(lambda: handler.load_now().queued == 1)
        with pytest.raises(QueueFull):
            await events_of(handler, completion(COUNT))
        with pytest.raises(InvalidRequest, match="3 choices"):
            await events_of(handler, completion(COUNT, n=3))
        await running.aclose()
        await queued
        await waiting.aclose()


async def test_a_handler_that_is_not_loaded_says_so(smollm2_settings: ModelSettings) -> None:
    handler = LlamaCppHandler(smollm2_settings.model_copy(update={"engine": LlamaCppEngine(slots=3)}))
    assert handler.load_now().slots == 3
    with pytest.raises(Unavailable):
        await events_of(handler, completion(COUNT))
    with pytest.raises(Unavailable):
        assert handler.capabilities


async def test_a_broken_engine_fails_the_check(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=64, slots=1) as handler:
        await handler.check()
        assert handler._engine is not None
        handler._engine.broken = RuntimeError("decoding failed")
        with pytest.raises(InternalError):
            await handler.check()


async def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(RuntimeError, match=r"broken\.gguf: .*bad GGUF version"):
        Model(path, LlamaCppEngine())
    with pytest.raises(FileNotFoundError, match=r"none\.gguf"):
        Model(tmp_path / "none.gguf", LlamaCppEngine())


# Giving up.


async def test_a_stream_that_is_closed_frees_its_slot(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=1) as handler:
        running = stream(handler, completion(COUNT, max_tokens=400))
        await anext(running)
        assert handler.load_now().active == 1
        await running.aclose()
        await until(lambda: handler.load_now().active == 0)


async def test_a_cancelled_task_leaves_the_queue(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=1) as handler:
        running = stream(handler, completion(COUNT, max_tokens=400))
        await anext(running)
        waiting = asyncio.ensure_future(events_of(handler, completion(COUNT)))
        await until(lambda: handler.load_now().queued == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert handler.load_now().queued == 0
        await running.aclose()


async def test_a_prompt_in_progress_can_be_cancelled(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=1024, slots=1, batch=32) as handler:
        reading = asyncio.ensure_future(events_of(handler, completion("word " * 900)))
        await until(lambda: handler.load_now().active == 1)
        assert handler.load_now().queued_tokens > 0
        reading.cancel()
        await until(lambda: handler.load_now().active == 0)
        assert "Paris" in text(await events_of(handler, chat(CAPITAL)))


async def test_unloading_ends_running_requests(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=1) as handler:
        running = stream(handler, completion(COUNT, max_tokens=400))
        await anext(running)
        waiting = asyncio.ensure_future(events_of(handler, completion(COUNT)))
        await until(lambda: handler.load_now().queued == 1)
        await handler.unload()
        with pytest.raises(Unavailable):
            [event async for event in running]
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await events_of(handler, completion(COUNT))
