"""The handler without a model."""

from __future__ import annotations

import asyncio

import pytest

from serve.errors import InvalidRequest, QueueFull
from serve.handlers.base import HANDLERS, Handler, handler_class
from serve.handlers.echo import EchoHandler
from serve.protocol.events import Delta, Usage
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest, Message
from serve.protocol.sampling import Sampling, SamplingDefaults, resolve
from tests.unit.replica.models import echo

REQUEST = ChatRequest(model="m", messages=[Message(role="user", content="a"), Message(role="user", content="b")])


def sampling(max_tokens: int | None = None) -> Sampling:
    """The default sampling with a limit."""
    return resolve(REQUEST, SamplingDefaults(max_tokens=max_tokens))


async def test_it_answers_with_the_number_of_tokens_that_is_set() -> None:
    *tokens, last = [events async for events in echo(tokens=3).chat(REQUEST, sampling())]
    assert tokens == [(Delta(text=f" token{number}"),) for number in range(3)]
    assert last == (Delta(finish_reason="stop"), Usage(2, 3))


async def test_a_request_may_ask_for_fewer_tokens_but_not_for_more() -> None:
    for limit, count in ((1, 1), (9, 3)):
        answer = [events async for events in echo(tokens=3).chat(REQUEST, sampling(limit))]
        assert answer[-1][1] == Usage(2, count)


async def test_a_request_beyond_its_slots_is_refused_and_a_slot_given_back_is_used_again() -> None:
    handler = echo(slots=1)
    first = handler.chat(REQUEST, sampling())
    await anext(first)
    assert handler.load_now().active == 1
    with pytest.raises(QueueFull):
        await anext(handler.chat(REQUEST, sampling()))
    await first.aclose()
    assert handler.load_now().active == 0
    await anext(handler.chat(REQUEST, sampling()))


async def test_a_request_that_is_cancelled_gives_its_slot_back() -> None:
    handler = echo(token_ms=60_000)
    task = asyncio.ensure_future(anext(handler.chat(REQUEST, sampling())))
    await asyncio.sleep(0)
    assert handler.load_now().active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.load_now().active == 0


async def test_it_can_be_loaded_and_unloaded_twice_and_is_healthy() -> None:
    handler = echo()
    for _ in range(2):
        await handler.load()
        await handler.check()
        await handler.unload()


async def test_what_a_handler_does_not_do_is_refused_by_the_models_name() -> None:
    handler = echo("tiny")
    with pytest.raises(InvalidRequest, match="'tiny' cannot complete text"):
        handler.complete(CompletionRequest(model="tiny", prompt="a"), sampling())
    with pytest.raises(InvalidRequest, match="'tiny' has no embeddings"):
        await handler.embed(EmbeddingRequest(model="tiny", input="a"))
    with pytest.raises(InvalidRequest, match="'tiny' cannot chat"):
        Handler.chat(handler, REQUEST, sampling())


def test_a_handler_is_found_by_its_name() -> None:
    assert handler_class("echo") is EchoHandler
    with pytest.raises(KeyError):
        handler_class("torch")
    assert all(":" in place for place in HANDLERS.values())
