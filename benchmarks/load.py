"""A fast client that keeps a number of streamed chat completions under way for a fixed time, and times them.

``python -m benchmarks.load`` reads a ``Load`` as JSON from standard input and writes a ``Sample`` as JSON to standard
output, so that a benchmark runs its client in a process of its own. One request that fails, or one answer that is not
whole, fails the measurement: the process then says why on standard error and exits with 1.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Coroutine, Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from httptools import HttpParserError, HttpResponseParser

from benchmarks.answers import AnswerCheck, BadAnswer
from benchmarks.spread import percentile

#: How long the last answers may take after the measured time is over.
PATIENCE_SECONDS = 300.0
_CONTENT = re.compile(rb'"content":\s*"[^"]')


@dataclass(frozen=True)
class Load:
    """What to ask, how often, and for how long.

    Attributes:
        url: a base address such as ``http://127.0.0.1:8000/v1``.
        text: what every answer must say.
        concurrency: requests under way at any time.
        warm_up: seconds of the same load before the measured ones.
        key: an API key; none sends no authorization.
    """

    url: str
    model: str
    text: str
    concurrency: int
    seconds: float
    warm_up: float = 0.5
    key: str | None = None


@dataclass(frozen=True)
class Sample:
    """What was measured on the requests that were under way in the measured time. Times are in milliseconds.

    Attributes:
        requests: how many; all of them finished.
        per_second: requests a second; one that lies across an edge of the measured time counts with its share inside.
        first_token_p50: from sending the request to the first content. first_token_p95: the same.
        total_p50: from sending the request to the end of the answer.
        frames: content frames of an answer, on average.
    """

    requests: int
    per_second: float
    first_token_p50: float
    first_token_p95: float
    total_p50: float
    frames: float


@dataclass(frozen=True, slots=True)
class Timed:
    """One finished request; times are seconds of ``time.perf_counter``."""

    begun: float
    first: float
    ended: float
    frames: int


class StreamConnection(asyncio.Protocol):
    """One HTTP/1.1 connection that carries one request at a time, parsed by httptools."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._ended: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._whole = False
        self._keep = False
        self.first = 0.0
        self.ended = 0.0

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._closed and not self._transport.is_closing()

    async def ask(self, request: bytes) -> bytes:
        """Send ``request`` and give the body of its answer; ``first`` and ``ended`` then say when things came.

        Raises:
            BadAnswer: the status is not 200, the answer is no HTTP, or the connection broke.
        """
        self._reset()
        assert self._transport is not None
        self._ended = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._ended
        body = b"".join(self._parts)
        status = self._parser.get_status_code()
        if status != 200:
            raise BadAnswer(f"HTTP {status}: {body[:500].decode('utf-8', 'replace')}")
        if not self._keep:
            self.close()
        return body

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        # uvloop's transports keep asyncio.Transport's contract without being its subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; note when it held the first content and when it held the end."""
        now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(f"the answer is not HTTP: {error}")
            return
        if not self.first and _CONTENT.search(b"".join(self._parts)):
            self.first = now
        if self._whole and self._ended is not None and not self._ended.done():
            self.ended = now
            self._ended.set_result(None)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body (called by httptools)."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Note that the answer is whole (called by httptools, which knows only now whether the server goes on)."""
        self._whole = True
        self._keep = self._parser.should_keep_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is under way."""
        self._closed = True
        self._fail(f"the connection broke off{f': {exc}' if exc else ''}")

    def _fail(self, reason: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(BadAnswer(f"{reason}, after {sum(map(len, self._parts))} bytes of the body"))


class Run:
    """One measurement: ``concurrency`` workers, each with a connection of its own."""

    def __init__(self, load: Load) -> None:
        self._load = load
        place = urlsplit(load.url)
        self._host = place.hostname or "127.0.0.1"
        self._port = place.port or 80
        self._request = _encode(load)
        self._check = AnswerCheck(load.text)
        self._timed: list[Timed] = []
        # Requests that began before the end of the measured time and are not finished.
        self._pending = 0
        self._start = self._end = 0.0

    async def measure(self) -> Sample:
        """Run the load.

        Raises:
            BadAnswer: some answer was not whole.
            OSError: the server cannot be reached.
        """
        self._start = time.perf_counter() + self._load.warm_up
        self._end = self._start + self._load.seconds
        allowed = self._load.warm_up + self._load.seconds + PATIENCE_SECONDS
        await together([self._work() for _ in range(self._load.concurrency)], allowed)
        return self._sample()

    async def _work(self) -> None:
        connection: StreamConnection | None = None
        try:
            # The load stays as it is until the last request of the measured time has finished.
            while self._pending or time.perf_counter() < self._end:
                if connection is None or not connection.usable:
                    loop = asyncio.get_running_loop()
                    _, connection = await loop.create_connection(StreamConnection, self._host, self._port)
                await self._ask(connection)
        finally:
            if connection is not None:
                connection.close()

    async def _ask(self, connection: StreamConnection) -> None:
        begun = time.perf_counter()
        counted = begun < self._end
        self._pending += counted
        body = await connection.ask(self._request)
        self._pending -= counted
        frames = self._check.frames(body)
        if counted and connection.ended > self._start:
            self._timed.append(Timed(begun, connection.first, connection.ended, frames))

    def _sample(self) -> Sample:
        first = [(one.first - one.begun) * 1000 for one in self._timed]
        shares = (share(one.begun, one.ended, self._start, self._end) for one in self._timed)
        return Sample(
            requests=len(self._timed),
            per_second=sum(shares) / self._load.seconds,
            first_token_p50=percentile(first, 50),
            first_token_p95=percentile(first, 95),
            total_p50=percentile([(one.ended - one.begun) * 1000 for one in self._timed], 50),
            frames=sum(one.frames for one in self._timed) / len(self._timed),
        )


async def together(workers: Iterable[Coroutine[Any, Any, None]], allowed: float) -> None:
    """Run workers at once until all have ended.

    Raises:
        BadAnswer: they did not end within ``allowed`` seconds.
        Exception: what the first worker raised that failed; the others are cancelled.
    """
    try:
        async with asyncio.timeout(allowed), asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(worker)
    except TimeoutError:
        raise BadAnswer(f"some answers did not end within {allowed:g} s") from None
    except ExceptionGroup as failures:
        # The first that failed; the others were cancelled or failed for the same reason.
        raise failures.exceptions[0] from None


def share(begun: float, ended: float, start: float, end: float) -> float:
    """Which part of the time from ``begun`` to ``ended`` lies between ``start`` and ``end``, from 0 to 1."""
    return max(0.0, min(ended, end) - max(begun, start)) / (ended - begun)


def _encode(load: Load) -> bytes:
    """The bytes of the one request that is sent again and again."""
    messages = [{"role": "user", "content": "Say the tokens."}]
    return chat_request(load.url, load.key, {"model": load.model, "messages": messages, "stream": True})


def chat_request(url: str, key: str | None, body: object, *headers: str) -> bytes:
    """The bytes of a request for a chat completion below the base address ``url``."""
    place, data = urlsplit(url), orjson.dumps(body)
    lines = [
        f"POST {place.path}/chat/completions HTTP/1.1",
        f"Host: {place.netloc}",
        "Content-Type: application/json",
        *headers,
        *([f"Authorization: Bearer {key}"] if key else []),
        f"Content-Length: {len(data)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


def run(main: Coroutine[Any, Any, Sample]) -> Sample:
    """Run ``main`` on uvloop where it is installed, on asyncio's own loop where not."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    sample: Sample = uvloop.run(main)
    return sample


def main() -> int:
    """Measure what standard input says; the exit status is 1 when it cannot be measured."""
    load = Load(**orjson.loads(sys.stdin.buffer.read()))
    try:
        sample = run(Run(load).measure())
    except (BadAnswer, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(sample)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
