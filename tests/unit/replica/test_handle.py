"""A replica's answers through a Serve handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from serve.protocol.events import Delta, Usage
from serve.replica.asgi import TOKEN_HEADER
from serve.replica.handle import Piece, call_app
from tests.unit.protocol.events import ends_well, frames
from tests.unit.replica.models import CHAT, HELLO, TOKEN, Scripted, echo, replica

HEADERS = [(TOKEN_HEADER, TOKEN.encode())]


async def pieces(handler: Any, **fields: Any) -> list[Piece]:
    """Every piece of an answer."""
    body = orjson.dumps(HELLO | fields)
    return [piece async for piece in call_app(replica(handler).asgi, "POST", CHAT, HEADERS, body)]


def joined(bodies: list[Piece]) -> bytes:
    """What pieces of a body hold."""
    return b"".join(part for _, part in bodies)  # type: ignore[misc]


async def settled(done: Any) -> None:
    """Let the event loop run until ``done()``."""
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


async def test_an_answer_is_its_head_and_then_its_body() -> None:
    head, *bodies = await pieces(echo(tokens=3))
    assert head[:2] == ("head", 200)
    assert (b"content-type", b"application/json") in head[2]  # type: ignore[misc]
    assert [kind for kind, *_ in bodies] == ["body"] * len(bodies)
    content = orjson.loads(joined(bodies))
    assert content["choices"][0]["message"]["content"] == " token0 token1 token2"


async def test_a_stream_is_whole_and_comes_in_fewer_pieces_than_tokens() -> None:
    _, *bodies = await pieces(echo(tokens=60, token_ms=1), stream=True)
    assert ends_well(joined(bodies))
    assert len(bodies) < 60


async def test_the_first_token_goes_before_the_next_is_there() -> None:
    later = asyncio.Event()
    handler = Scripted([Delta(text="first")], later, [Delta(finish_reason="stop"), Usage(1, 1)])
    call = call_app(replica(handler).asgi, "POST", CHAT, HEADERS, orjson.dumps(HELLO | {"stream": True}))
    assert (await anext(call))[0] == "head"
    assert frames(joined([await anext(call)]))[-1]["choices"][0]["delta"] == {"content": "first"}
    later.set()
    assert ends_well(joined([piece async for piece in call]))


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_closing_an_answer_stops_the_work_on_it(taken: int) -> None:
    handler = echo(tokens=10**9, token_ms=5)
    call = call_app(replica(handler).asgi, "POST", CHAT, HEADERS, orjson.dumps(HELLO | {"stream": True}))
    first = asyncio.ensure_future(anext(call))
    await settled(lambda: handler.load_now().active == 1)
    if not taken:
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        await first
        for _ in range(taken - 1):
            await anext(call)
    await call.aclose()
    await settled(lambda: handler.load_now().active == 0)


async def test_closing_an_answer_without_a_stream_stops_the_work_on_it() -> None:
    handler = echo(tokens=10**9, token_ms=5)
    call = call_app(replica(handler).asgi, "POST", CHAT, HEADERS, orjson.dumps(HELLO))
    first = asyncio.ensure_future(anext(call))
    await settled(lambda: handler.load_now().active == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await settled(lambda: handler.load_now().active == 0)


async def test_an_app_that_fails_before_its_head_raises_at_the_caller() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await anext(call_app(broken, "GET", "/", [], b""))


async def test_an_app_that_fails_half_way_raises_after_what_it_sent() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("broken")

    call: AsyncIterator[Piece] = call_app(broken, "GET", "/", [], b"")
    assert [await anext(call), await anext(call)] == [("head", 200, []), ("body", b"half")]
    with pytest.raises(ValueError, match="broken"):
        await anext(call)


async def test_an_app_gets_the_request_once_and_is_not_told_that_the_client_left() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["method"], scope["path"], scope["headers"], await receive()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await receive()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    found = [piece async for piece in call_app(app, "PUT", "/a", [(b"x", b"y")], b"abc")]
    assert found == [("head", 204, [])]
    assert seen == [("PUT", "/a", [(b"x", b"y")], {"type": "http.request", "body": b"abc", "more_body": False})]
