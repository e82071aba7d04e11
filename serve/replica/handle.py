"""A model's answers through a Serve handle, for clusters where Serve runs no HAProxy.

The same ASGI app answers as over HTTP; its messages are gathered and sent on as plain tuples. The first piece of
an answer goes at once; later ones are joined until ``GAP_SECONDS`` have passed, because each item of a Serve
stream costs far more than the bytes in it (docs/benchmarks.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import ASGIApp, Message

RawHeaders = list[tuple[bytes, bytes]]
#: ("head", status, headers), then ("body", bytes) until the answer ends.
Piece = tuple[str, int, RawHeaders] | tuple[str, bytes]

GAP_SECONDS = 0.04


async def call_app(
    app: ASGIApp, method: str, path: str, headers: RawHeaders, body: bytes
) -> AsyncGenerator[Piece, None]:
    """Ask ``app`` as an HTTP server would, and yield its answer in pieces; closing this cancels the request."""
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def run() -> None:
        try:
            await app(scope, receive, messages.put)
        finally:
            messages.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        head = await messages.get()
        if head is None:
            await task
            return
        yield "head", head["status"], list(head["headers"])
        async for piece in _bodies(messages):
            yield "body", piece
        await task
    finally:
        task.cancel()


async def _bodies(messages: asyncio.Queue[Message | None]) -> AsyncGenerator[bytes, None]:
    """The bodies in the queue: the first at once, later ones joined over a short time."""
    first = True
    while (message := await messages.get()) is not None:
        parts = [message.get("body", b"")]
        if not first:
            await asyncio.sleep(GAP_SECONDS)
        first = False
        ended = False
        while not messages.empty():
            following = messages.get_nowait()
            if following is None:
                ended = True
                break
            parts.append(following.get("body", b""))
        if joined := b"".join(parts):
            yield joined
        if ended:
            return
