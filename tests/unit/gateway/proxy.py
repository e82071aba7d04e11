"""A small HTTP server that plays Serve's proxy, well and badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serve.gateway.transport.base import Answer
from serve.gateway.transport.http import HttpTransport
from serve.settings.gateway import Limits, Timeouts

#: Answers one request on its connection.
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

OF_A_MODEL = b"x-groupqwen-model: m\r\n"


@dataclass
class Proxy:
    """Answers each request by the next script; connections stay open between them.

    Attributes:
        scripts: one for each request to come.
        requests: every request, as it came.
        connections: how many were made.
        writers: of the connections that are open.
    """

    scripts: list[Script] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes over one connection."""
        self.connections += 1
        self.writers.append(writer)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.scripts.pop(0)(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The gateway closed the connection, as some tests want it to.
        finally:
            self.writers.remove(writer)
            writer.close()

    def cut(self) -> None:
        """Close every connection, as a proxy does with idle ones."""
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def proxied(
    *scripts: Script, limits: Limits | None = None, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[Proxy, HttpTransport]]:
    """A proxy with these scripts, and the gateway's transport to it."""
    proxy = Proxy(list(scripts))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    transport = HttpTransport("127.0.0.1", proxy.port, limits or Limits(), timeouts or Timeouts())
    try:
        yield proxy, transport
    finally:
        await transport.close()
        proxy.cut()
        server.close()
        await server.wait_closed()


async def ask(transport: HttpTransport, body: bytes = b"{}") -> Answer:
    """Ask the model."""
    return await transport.ask("m", "POST", "/v1/chat/completions", [(b"x-request-id", b"r1")], body)


async def whole(transport: HttpTransport, body: bytes = b"{}") -> tuple[int, bytes]:
    """Ask the model and take its whole answer."""
    answer = await ask(transport, body)
    try:
        return answer.status, await answer.body()
    finally:
        answer.close()


def plain(
    body: bytes = b"{}", *, status: bytes = b"200 OK", headers: bytes = OF_A_MODEL, end: bool = False
) -> Script:
    """An answer that declares its length; with ``end`` its connection is closed."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body))
        if end:
            await writer.drain()
            writer.close()

    return script


def raw(*parts: bytes, end: bool = False) -> Script:
    """These bytes, each sent when the one before has been."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if end:
            writer.close()

    return script


def chunked(*parts: bytes, finished: bool = True) -> Script:
    """A stream of unknown length; one that is not finished breaks off."""
    head = b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % OF_A_MODEL
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    return raw(head, *chunks, *([b"0\r\n\r\n"] if finished else []), end=not finished)


def silent(released: asyncio.Event) -> Script:
    """Nothing, until the test is over."""

    async def script(writer: asyncio.StreamWriter) -> None:
        await released.wait()

    return script
