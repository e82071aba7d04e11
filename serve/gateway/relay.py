"""Relays a model's answer to the client, byte for byte, and looks into it only where it must."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.types import Send

from serve.errors import InternalError, UpstreamFailed
from serve.gateway.transport.base import Answer, RawHeaders, ReplicaLost
from serve.protocol.chat import JoinedChoices, usage_body
from serve.protocol.events import Usage
from serve.protocol.http import as_error
from serve.protocol.sse import DONE, FrameReader, frame
from serve.replica.answers import USAGE_COMMENT, USAGE_HEADER

logger = logging.getLogger(__name__)

Json = dict[str, Any]
#: Takes a finished answer (an OpenAI ``chat.completion`` object) before the client sees its end.
Keep = Callable[[Json], Awaitable[None]]
#: Takes the prompt and completion tokens of a finished answer.
Count = Callable[[int, int], None]

_PASSED = frozenset(
    {
        b"content-type",
        b"content-disposition",
        b"x-groupqwen-violations",
        b"x-groupqwen-failed",
        b"cache-control",
        b"x-accel-buffering",
        b"retry-after",
        b"x-groupqwen-model",
        b"x-groupqwen-error",
    }
)


async def relay(send: Send, answer: Answer, headers: RawHeaders, count: Count, keep: Keep | None) -> None:
    """Send ``answer`` on with ``headers`` added.

    A stream is passed on as it comes; if it breaks off, it ends with an error object. Anything else is taken whole
    first, so that an answer which breaks off becomes a clean error with a status of its own.

    Raises:
        ReplicaLost: an answer that is not a stream broke off; nothing has been sent.
    """
    passed = [(name, value) for name, value in answer.headers if name in _PASSED]
    if (answer.header(b"content-type") or b"").startswith(b"text/event-stream"):
        await send({"type": "http.response.start", "status": answer.status, "headers": [*passed, *headers]})
        await _relay_stream(send, answer, count, keep)
        return
    body = await answer.body()
    if answer.status == 200 and (used := answer.header(USAGE_HEADER)) is not None:
        count(*map(int, used.split()))
    elif answer.status == 200:
        whole = orjson.loads(body)
        usage = whole.get("usage") or {}
        count(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        if keep is not None:
            await keep(whole)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": answer.status, "headers": [*passed, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _relay_stream(send: Send, answer: Answer, count: Count, keep: Keep | None) -> None:
    kept = KeptStream() if keep is not None else None
    tail, last, more = b"", b"", True
    try:
        async for chunk in answer.chunks():
            tail = chunk if len(chunk) >= _TAIL else (tail + chunk)[-_TAIL:]
            if kept is not None:
                kept.feed(chunk)
            if tail.endswith(DONE):
                usage = usage_in(tail)
                count(usage.prompt_tokens, usage.completion_tokens)
                if kept is not None and keep is not None:
                    await keep(kept.whole(usage))
            # The end goes out with the last piece where they came together: one message less on the whole way.
            more = not answer.ended
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
    except ReplicaLost as lost:
        logger.warning("a model was lost while it answered", extra={"reason": str(lost)})
        last = frame(lost_error().body())
    except Exception as raised:
        error = as_error(raised)
        if isinstance(error, InternalError):
            logger.exception("a stream failed in the gateway")
        last = frame(error.body())
    if more:
        await send({"type": "http.response.body", "body": last})


def lost_error() -> UpstreamFailed:
    """What a client is told when a model breaks off."""
    return UpstreamFailed("The model was lost while it answered; the answer is not complete.", code="model_lost")


#: The end of a stream that can hold the usage comment and the end mark.
_TAIL = 256


def usage_in(tail: bytes) -> Usage:
    """The token counts, from the comment that a replica writes before the end mark."""
    found = tail.rpartition(USAGE_COMMENT)[2] if USAGE_COMMENT in tail else b""
    words = found.split()[:3]
    if len(words) == 3 and all(word.isdigit() for word in words):
        return Usage(*map(int, words))
    return Usage(0, 0)


class KeptStream:
    """Adds a stream up to the answer that it is, for the store."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._joined = JoinedChoices()
        self._head: Json = {}

    def feed(self, chunk: bytes) -> None:
        """Take some bytes of the stream."""
        for data in self._reader.feed(chunk):
            if data == b"[DONE]":
                continue
            event = orjson.loads(data)
            self._head = self._head or event
            self._joined.add(event.get("choices") or ())

    def whole(self, usage: Usage) -> Json:
        """The answer as a ``chat.completion`` object."""
        return {
            "id": self._head["id"],
            "object": "chat.completion",
            "created": self._head["created"],
            "model": self._head["model"],
            "choices": self._joined.finished(),
            "usage": usage_body(usage),
        }
