"""Raw HTTP to Serve's own proxy at ``/m/<model>`` and ``/t/<task>``; it balances and knows who is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from serve.errors import QueueFull
from serve.gateway.transport.base import MODELS, TASKS, Answer, RawHeaders, ReplicaLost, Transport
from serve.gateway.transport.connection import Connection
from serve.replica.asgi import MODEL_HEADER
from serve.settings.gateway import Limits, Timeouts

#: Serve's proxy closes an idle connection after http_options.keep_alive_timeout_s (90 s); ours go first.
IDLE_SECONDS = 60.0
MAX_IDLE = 256


class HttpTransport(Transport):
    """A pool of connections to one proxy.

    ``limits`` and ``timeouts`` may be replaced at any time; requests under way are judged by the new ones.
    """

    def __init__(self, host: str, port: int, limits: Limits, timeouts: Timeouts) -> None:
        self._host = host
        self._port = port
        self.limits = limits
        self.timeouts = timeouts
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._sweeper = asyncio.create_task(self._sweep())
        self._origin = f"host: {host}:{port}\r\n".encode()

    async def ask(
        self, model: str, method: str, path: str, headers: RawHeaders, body: bytes, mount: str = MODELS
    ) -> Answer:
        """Send the request over a kept connection, or a new one; a kept one that proves dead is replaced once."""
        data = self._encode(f"/{mount}/{model}{path}", method, headers, body)
        while True:
            connection = self._kept() or await self._connect()
            reused = connection.used > 0
            connection.for_task = mount == TASKS
            self._busy.add(connection)
            try:
                await connection.request(data)
            except ReplicaLost:
                # The proxy closes a kept connection without a word; nothing of the request was answered.
                stale = reused and not connection.given_up
                self._drop(connection)
                if stale:
                    continue
                raise
            except BaseException:
                self._drop(connection)
                raise
            return await self._answer(model, connection)

    def renew(self) -> None:
        """Close idle connections. Serve's proxy is replaced when replicas come or go, and one that was replaced goes
        on with its connections: it would look for replicas that are gone for 3 s."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        """Close every connection, busy ones too."""
        self._sweeper.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.abort("the gateway is shutting down")
        self._idle.clear()
        self._busy.clear()

    def release(self, connection: Connection) -> None:
        """Take a connection back: kept when its answer was taken whole, closed when not."""
        self._busy.discard(connection)
        if connection.reusable and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _answer(self, model: str, connection: Connection) -> Answer:
        answer = HttpAnswer(self, connection)
        if answer.header(MODEL_HEADER) is not None:
            return answer
        # Not the model speaks here but Serve or its proxy.
        retry_after = answer.header(b"retry-after") or b""
        self._drop(connection)
        if answer.status == 429:
            raise QueueFull(model, retry_after=float(retry_after) if retry_after.isdigit() else 1.0)
        raise ReplicaLost(f"Serve's proxy answered {answer.status}", begun=False)

    def _encode(self, target: str, method: str, headers: RawHeaders, body: bytes) -> bytes:
        lines = [f"{method} {target} HTTP/1.1\r\n".encode(), self._origin]
        lines += [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([*lines, b"content-length: %d\r\n\r\n" % len(body), body])

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeouts.connect):
                _, connection = await loop.create_connection(
                    lambda: Connection(self.limits.socket_buffer_bytes), self._host, self._port
                )
        except OSError as error:
            raise ReplicaLost(f"Serve's proxy cannot be reached: {error}", begun=False) from error
        return connection

    def _drop(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.abort()

    async def _sweep(self) -> None:
        """Once a second: close kept connections that are old, and end requests that have stalled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            old = [one for one in self._idle if now - one.last_data > IDLE_SECONDS or not one.open]
            for connection in old:
                self._idle.remove(connection)
                connection.abort()
            for connection in list(self._busy):
                if connection.paused:
                    continue  # It is the client that is slow.
                allowed = self.timeouts.between_bytes
                if connection.waiting_for_head:
                    allowed = self.timeouts.task_first_byte if connection.for_task else self.timeouts.first_byte
                if now - connection.last_data > allowed:
                    connection.abort(f"nothing came for {allowed:g} s")


class HttpAnswer(Answer):
    """An answer that comes over a connection of the pool."""

    def __init__(self, pool: HttpTransport, connection: Connection) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self.status = connection.status
        self.headers = connection.headers

    @property
    def ended(self) -> bool:
        """Whether the body has been taken whole."""
        return self._connection is not None and self._connection.ended

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        assert self._connection is not None, "the answer is closed"
        return self._connection.chunks()

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None
