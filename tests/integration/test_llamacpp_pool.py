"""What idle slots of the llama.cpp handler hold beside the cache, with a real model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serve.handlers.base import Load
from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.protocol.events import Event
from serve.settings.model import ModelSettings
from tests.llamacpp import COUNT, completion, events_of, loaded, stream, text, usage

#: About 70 tokens, 140 and 20.
WORDS, MANY, STORY = COUNT * 5, COUNT * 10, "Once upon a time there was a small dragon who lived"


@asynccontextmanager
async def busy(handler: LlamaCppHandler) -> AsyncIterator[None]:
    """A request that generates meanwhile."""
    running = stream(handler, completion(STORY, max_tokens=400))
    await anext(running)
    await anext(running)
    yield
    await running.aclose()


async def asked(handler: LlamaCppHandler, prompt: str) -> list[Event]:
    return await events_of(handler, completion(prompt, max_tokens=12))


def cells(handler: LlamaCppHandler) -> int:
    """Tokens in the cache."""
    load: Load = handler.load_now()
    return round(load.cache_use * 512 * load.slots)


async def test_what_an_idle_slot_holds_leaves_the_cache_while_others_run_and_comes_back(
    smollm2_settings: ModelSettings,
) -> None:
    async with loaded(smollm2_settings, context=512, slots=2) as handler:
        first = await asked(handler, WORDS)
        alone, before = cells(handler), handler.load_now().memory_bytes
        assert alone > 70
        async with busy(handler):
            assert cells(handler) < alone
            # 22.5 kB for each of its tokens.
            assert handler.load_now().memory_bytes - before > 70 * 22_500
            again = await asked(handler, WORDS)
    assert text(again) == text(first)
    assert usage(again).cached_tokens == usage(again).prompt_tokens - 1


async def test_a_beginning_is_shared_out_of_a_slot_that_keeps_what_it_holds(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=3) as handler:
        first = await asked(handler, MANY)
        async with busy(handler):
            # Less than half of what the slot holds begins alike, so another one is taken.
            other = await asked(handler, f"{COUNT} and so on")
            again = await asked(handler, MANY)
    assert usage(other).cached_tokens >= 10
    assert text(again) == text(first)
    assert usage(again).cached_tokens == usage(again).prompt_tokens - 1


async def test_what_has_no_room_beside_the_cache_stays_in_it(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=2) as handler:
        await events_of(handler, completion(COUNT * 20, max_tokens=12))
        alone, before = cells(handler), handler.load_now().memory_bytes
        assert alone > 256
        async with busy(handler):
            assert cells(handler) > alone
            assert handler.load_now().memory_bytes == before
            again = await events_of(handler, completion(COUNT * 20, max_tokens=1))
    assert usage(again).cached_tokens == usage(again).prompt_tokens - 1


async def test_what_cannot_come_back_is_computed_again(
    smollm2_settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(context: Context, sequence: int, state: Any) -> bool:
        return False

    async with loaded(smollm2_settings, context=512, slots=2) as handler:
        first = await asked(handler, WORDS)
        async with busy(handler):
            monkeypatch.setattr(Context, "restore", no_room)
            again = await asked(handler, WORDS)
    assert text(again) == text(first)
    assert usage(again).cached_tokens == 0


async def test_nothing_is_held_beside_the_cache_where_prompts_are_not_cached(smollm2_settings: ModelSettings) -> None:
    async with loaded(smollm2_settings, context=512, slots=2, cache_prompts=False) as handler:
        await asked(handler, WORDS)
        before = handler.load_now().memory_bytes
        async with busy(handler):
            assert handler.load_now().memory_bytes == before
            again = await asked(handler, WORDS)
    assert usage(again).cached_tokens == 0
