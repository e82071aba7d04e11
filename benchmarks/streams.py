"""A client that keeps a number of streamed chats with a real model under way, and counts the tokens that come.

``python -m benchmarks.streams`` reads a ``StreamLoad`` as JSON from standard input and writes a ``StreamSample`` as
JSON to standard output. One request that fails, or one answer with no end or no content, fails the measurement.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.answers import BadAnswer
from benchmarks.load import PATIENCE_SECONDS, StreamConnection, chat_request, share, together
from benchmarks.spread import percentile
from serve.protocol.sse import FrameReader

_FIRST_NUMBER = 400_000
_SYSTEM = "You are a helpful assistant."
_TOPICS = ("the sea", "a city at night", "an old engine", "rain in spring", "two brothers", "the first train", "bees")
#: Each is one token of SmolLM2's vocabulary, with the space before it.
_WORDS = ("tree", "river", "stone", "cloud", "bread", "house", "light", "music", "water", "road")


@dataclass(frozen=True)
class StreamLoad:
    """What to ask, of whom, and for how long.

    Attributes:
        url: a base address such as ``http://127.0.0.1:8000/v1``.
        streams: requests under way at any time; each has a prompt of its own.
        tokens: the most tokens of an answer.
        seconds: the measured time. warm_up: seconds of the same load before it.
        key: an API key; none sends no authorization.
        long_prompt: words of a prompt that one more request brings, a second into the measured time; what it is
            answered does not count. 0: there is no such request.
    """

    url: str
    model: str
    streams: int
    tokens: int
    seconds: float
    warm_up: float = 2.0
    key: str | None = None
    long_prompt: int = 0


@dataclass(frozen=True)
class StreamSample:
    """What was measured. Times are in milliseconds.

    Attributes:
        answers: finished answers that lie in the measured time in whole or in part.
        tokens_per_second: of all streams together; an answer counts with its share inside the measured time.
        first_token_p50: from sending a request to its first content.
        gap_p50: the longest pause between two pieces of an answer, the median over answers. gap_most: the largest.
    """

    answers: int
    tokens_per_second: float
    first_token_p50: float
    gap_p50: float
    gap_most: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer; times are seconds of ``time.perf_counter``."""

    begun: float
    arrivals: Sequence[float]
    tokens: int


class TimedConnection(StreamConnection):
    """A connection that notes when each piece of the answer came, from the first content on."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[float] = []

    def data_received(self, data: bytes) -> None:
        """Parse what came, and note the time."""
        super().data_received(data)
        if self.first:
            self.arrivals.append(time.perf_counter())


class StreamRun:
    """One measurement: ``streams`` workers, each with one request after another on connections of their own."""

    def __init__(self, load: StreamLoad) -> None:
        self._load = load
        place = urlsplit(load.url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        # Other numbers in each measurement, always as many digits: a server that keeps what it computed for earlier
        # prompts would otherwise find them all there.
        self._numbers = itertools.count(_FIRST_NUMBER + secrets.randbelow(_FIRST_NUMBER))
        self._answers: list[Answer] = []
        self._start = self._end = 0.0

    async def measure(self) -> StreamSample:
        """Run the load.

        Raises:
            BadAnswer: some answer was not whole.
            OSError: the server cannot be reached.
        """
        self._start = time.perf_counter() + self._load.warm_up
        self._end = self._start + self._load.seconds
        allowed = self._load.warm_up + self._load.seconds + PATIENCE_SECONDS
        workers = [self._work() for _ in range(self._load.streams)]
        if self._load.long_prompt:
            workers.append(self._bring_long_prompt())
        await together(workers, allowed)
        return summed_up(self._answers, self._start, self._end)

    async def _work(self) -> None:
        # Every worker goes on to the end of its last answer, so that the load stays whole for the measured time.
        while time.perf_counter() < self._end:
            number = next(self._numbers)
            topic = _TOPICS[number % len(_TOPICS)]
            text = f"Number {number}: write a long story about {topic}, with many details."
            begun, connection, body = await self._ask(text, self._load.tokens)
            self._answers.append(Answer(begun, connection.arrivals, tokens_in(body)))

    async def _bring_long_prompt(self) -> None:
        await asyncio.sleep(self._load.warm_up + 1)
        words = itertools.islice(itertools.cycle(_WORDS), self._load.long_prompt)
        # What it says, if anything, does not matter.
        await self._ask(f"{next(self._numbers)}: which of these words is the longest? {' '.join(words)}", 1)

    async def _ask(self, text: str, tokens: int) -> tuple[float, TimedConnection, bytes]:
        """When it was sent, what it came over, and the body of the answer."""
        loop = asyncio.get_running_loop()
        # Connections are not used again: llama.cpp's server is slower with kept ones.
        _, connection = await loop.create_connection(TimedConnection, self._host, self._port)
        try:
            begun = time.perf_counter()
            return begun, connection, await connection.ask(_encode(self._load, text, tokens))
        finally:
            connection.close()


def summed_up(answers: Sequence[Answer], start: float, end: float) -> StreamSample:
    """The sample of ``answers`` between ``start`` and ``end``.

    Raises:
        BadAnswer: none lies there.
    """
    inside = [one for one in answers if one.arrivals and one.arrivals[-1] > start and one.begun < end]
    if not inside:
        raise BadAnswer("no answer was finished in the measured time")
    gaps = [
        max((later - earlier for earlier, later in itertools.pairwise(one.arrivals)), default=0.0) for one in inside
    ]
    tokens = sum(one.tokens * _share(one, start, end) for one in inside)
    return StreamSample(
        answers=len(inside),
        tokens_per_second=tokens / (end - start),
        first_token_p50=1000 * percentile([one.arrivals[0] - one.begun for one in inside], 50),
        gap_p50=1000 * percentile(gaps, 50),
        gap_most=1000 * max(gaps),
    )


def tokens_in(body: bytes) -> int:
    """The generated tokens of a streamed answer, as its usage says. Where a server sends none (llama-cpp-python's),
    each frame with content is a token.

    Raises:
        BadAnswer: it has no end, no content, or an error.
    """
    frames, usage, done = 0, 0, False
    for data in FrameReader().feed(body):
        if data == b"[DONE]":
            done = True
            continue
        event: dict[str, Any] = orjson.loads(data)
        if "error" in event:
            raise BadAnswer(f"the stream has an error: {event['error']}")
        frames += any(choice["delta"].get("content") for choice in event["choices"])
        usage = (event.get("usage") or {}).get("completion_tokens", usage)
    if not done or not frames:
        raise BadAnswer(f"the stream has {'no content' if done else 'no [DONE]'}")
    return usage or frames


def _share(one: Answer, start: float, end: float) -> float:
    first, last = one.arrivals[0], one.arrivals[-1]
    return share(first, last, start, end) if last > first else float(start <= first < end)


def _encode(load: StreamLoad, text: str, tokens: int) -> bytes:
    body = {
        "model": load.model,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": text},
        ],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return chat_request(load.url, load.key, body, "Connection: close")


def main() -> int:
    """Measure what standard input says; the exit status is 1 when it cannot be measured."""
    load = StreamLoad(**orjson.loads(sys.stdin.buffer.read()))
    try:
        sample = asyncio.run(StreamRun(load).measure())
    except (BadAnswer, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(sample)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
