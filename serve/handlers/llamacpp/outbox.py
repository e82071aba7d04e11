"""What became ready in a step, on its way to the event loop."""

from __future__ import annotations

import asyncio

from serve.errors import GroupQwenError
from serve.handlers.llamacpp.sequence import Stream
from serve.protocol.events import Event


class Outbox:
    """Collects what the engine's thread has for requests, and hands all of it over in one call."""

    def __init__(self) -> None:
        self._events: dict[Stream, list[Event]] = {}
        self._errors: dict[Stream, GroupQwenError] = {}

    def add(self, stream: Stream, event: Event) -> None:
        """Something is ready."""
        self._events.setdefault(stream, []).append(event)

    def fail(self, stream: Stream, error: GroupQwenError) -> None:
        """The request ends with an error; the first one counts."""
        self._errors.setdefault(stream, error)

    def deliver(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Hand everything over; whether there is still a loop to take it."""
        closed = loop.is_closed()
        if not closed and (self._events or self._errors):
            loop.call_soon_threadsafe(_hand_out, self._events, self._errors)
        self._events, self._errors = {}, {}
        return not closed


def _hand_out(events: dict[Stream, list[Event]], errors: dict[Stream, GroupQwenError]) -> None:
    for stream in events.keys() | errors.keys():
        stream.put(events.get(stream, ()), errors.get(stream))
