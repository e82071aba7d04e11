"""What tests of the llama.cpp handler share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from serve.handlers.base import EventStream, Handler
from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.protocol.events import Delta, Event, Usage
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

GREEDY = SamplingDefaults(temperature=0, max_tokens=24)
CAPITAL = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
COUNT = "one two three four five six seven eight nine ten one two three four"


@asynccontextmanager
async def loaded(settings: ModelSettings, *, max_queued: int = 64, **engine: Any) -> AsyncIterator[LlamaCppHandler]:
    """A handler with these engine settings, unloaded at the end."""
    changed = settings.model_copy(update={"engine": LlamaCppEngine(**engine), "max_queued": max_queued})
    handler = LlamaCppHandler(changed)
    await handler.load()
    try:
        yield handler
    finally:
        await handler.unload()


def stream(handler: Handler, request: ChatRequest | CompletionRequest) -> EventStream:
    sampling = resolve(request, GREEDY)
    if isinstance(request, ChatRequest):
        return handler.chat(request, sampling)
    return handler.complete(request, sampling)


async def events_of(handler: Handler, request: ChatRequest | CompletionRequest) -> list[Event]:
    return [event async for events in stream(handler, request) for event in events]


def chat(messages: str | list[dict[str, Any]], **fields: Any) -> ChatRequest:
    if isinstance(messages, str):
        messages = [CAPITAL[0], {"role": "user", "content": messages}]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **fields})


def completion(prompt: str, **fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "m", "prompt": prompt, "max_tokens": 24, **fields})


def deltas(events: list[Event], choice: int = 0) -> list[Delta]:
    return [event for event in events if isinstance(event, Delta) and event.index == choice]


def text(events: list[Event], choice: int = 0) -> str:
    return "".join(delta.text for delta in deltas(events, choice))


def usage(events: list[Event]) -> Usage:
    assert isinstance(events[-1], Usage)
    return events[-1]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.005)
