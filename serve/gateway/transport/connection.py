"""One kept-alive HTTP/1.1 connection, parsed by httptools, with flow control and no copy beyond the socket's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

from httptools import HttpParserError, HttpResponseParser

from serve.gateway.transport.base import RawHeaders, ReplicaLost


class Connection(asyncio.Protocol):
    """Sends one request at a time and hands its answer over as it comes.

    Attributes:
        used: how many requests it has carried.
        last_data: when something last came or went, on the loop's clock; idle sweeps look at it.
        waiting_for_head: whether a request is out whose answer has not begun.
        for_task: whether that request is for a task.
        given_up: whether it was closed from this side.
    """

    def __init__(self, buffer_limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = buffer_limit
        self._transport: asyncio.Transport | None = None
        self._wake: asyncio.Future[None] | None = None
        self.used = 0
        self.last_data = self._loop.time()
        self.waiting_for_head = False
        self.for_task = False
        self.given_up = False
        self._reset()

    def _reset(self) -> None:
        self._parser = HttpResponseParser(self)
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._head_there = False
        self._complete = False
        self._keep_alive = False
        self._error: str | None = None
        self.headers: RawHeaders = []
        self.status = 0

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        # uvloop's transports keep asyncio.Transport's contract without being its subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came and wake whoever waits for it."""
        self.last_data = self._loop.time()
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(f"the proxy's answer is not HTTP: {error}")
        self._notify()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side is gone; a body without a declared length ends here."""
        if self._head_there and not self._complete and not self._has_length():
            self._complete = True
        self._fail("the connection broke off")
        self._notify()

    # --- httptools callbacks ---

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there; an informational one is forgotten."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = []
            return
        self._head_there = True
        self.waiting_for_head = False

    def on_body(self, body: bytes) -> None:
        """Queue a part of the body, and stop reading when the client is far behind."""
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > self._limit and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer has ended."""
        if not self._head_there:
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()

    # --- the caller's side ---

    @property
    def open(self) -> bool:
        """Whether the socket can be written to."""
        return self._transport is not None and not self._transport.is_closing() and self._error is None

    @property
    def paused(self) -> bool:
        """Whether reading has stopped because the client has not taken what came before."""
        return self._paused

    @property
    def ended(self) -> bool:
        """Whether the answer has been taken whole."""
        return self._complete and not self._chunks

    @property
    def reusable(self) -> bool:
        """Whether the answer has been taken whole and the other side keeps the connection."""
        return self.open and self.ended and self._keep_alive

    async def request(self, data: bytes) -> None:
        """Send a request and wait for the head of its answer.

        Raises:
            ReplicaLost: the connection broke before the head was there.
        """
        self._reset()
        self.used += 1
        self.last_data = self._loop.time()
        self.waiting_for_head = True
        assert self._transport is not None
        self._transport.write(data)
        while not self._head_there:
            if self._error is not None:
                raise ReplicaLost(self._error, begun=False)
            await self._wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body; what has come together is given together.

        Raises:
            ReplicaLost: it broke off.
        """
        while True:
            if self._chunks:
                yield self._take()
            elif self._complete:
                return
            elif self._error is not None:
                raise ReplicaLost(self._error, begun=True)
            else:
                await self._wait()

    def abort(self, reason: str = "the request was given up") -> None:
        """Close the socket at once; the proxy passes that on to the replica, which cancels its work."""
        self.given_up = True
        self._fail(reason)
        if self._transport is not None:
            self._transport.abort()
        self._notify()

    def _take(self) -> bytes:
        if len(self._chunks) == 1:
            data = self._chunks.popleft()
        else:
            data = b"".join(self._chunks)
            self._chunks.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def _wait(self) -> None:
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._error is None:
            self._error = reason

    def _has_length(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
