"""Turns a handler's events into an HTTP answer: finished SSE frames, or one JSON object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from starlette.types import Send

from serve.errors import InternalError
from serve.handlers.base import EventStream
from serve.protocol.events import Event, Usage
from serve.protocol.http import STREAM_HEADERS, as_error, send_json
from serve.protocol.sse import DONE, frame

#: Told the token counts of every generation that finished.
Count = Callable[[Usage], None]

#: Begins a comment with prompt, completion and cached tokens before the end of every stream. Clients skip comments;
#: the gateway counts by it without reading each frame.
USAGE_COMMENT = b": usage "
#: The prompt and completion tokens of an answer that is a file, in place of JSON.
USAGE_HEADER = b"x-groupqwen-usage"

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """Writes events as SSE frames."""

    def frames(self, events: Sequence[Event]) -> bytes:
        """The frames of some events."""

    def end(self) -> bytes:
        """What comes before the end mark."""


class Collector(Protocol):
    """Gathers events into one answer."""

    def add(self, events: Sequence[Event]) -> None:
        """Take some events."""

    def body(self) -> dict[str, Any]:
        """The whole answer."""


async def send_stream(send: Send, events: EventStream, encoder: Encoder, count: Count) -> None:
    """Stream ``events`` as they come.

    The answer's head goes out with the first events, so that a request that cannot be carried out is still
    refused with its own status. A failure after that ends the stream with an error object in place of ``[DONE]``.
    """
    begun = False
    usage = Usage(0, 0)
    async with aclosing(events):
        try:
            async for ready in events:
                if not begun:
                    begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                usage = _count(ready, count) or usage
                await send({"type": "http.response.body", "body": encoder.frames(ready), "more_body": True})
            counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            counted = USAGE_COMMENT + b"%d %d %d\n\n" % counts
            last = encoder.end() + counted + DONE
        except Exception as raised:
            if not begun:
                raise
            error = as_error(raised)
            if isinstance(error, InternalError):
                logger.exception("a stream failed after it had begun")
            last = frame(error.body())
    await send({"type": "http.response.body", "body": last})


async def send_whole(send: Send, events: EventStream, collector: Collector, count: Count) -> None:
    """Send everything as one JSON object when the last event is there."""
    async with aclosing(events):
        async for ready in events:
            _count(ready, count)
            collector.add(ready)
    await send_json(send, collector.body())


def _count(events: Sequence[Event], count: Count) -> Usage | None:
    last = events[-1]
    if not isinstance(last, Usage):
        return None
    count(last)
    return last
