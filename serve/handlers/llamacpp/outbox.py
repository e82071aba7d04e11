"""What became ready in a step, on its way to the event loop."""

from __future__ import annotations

import asyncio
import time

from serve.errors import GroupQwenError
from serve.handlers.llamacpp.sequence import Stream
from serve.protocol.events import Event


class Outbox:
    """Collects what the engine's thread has for requests, and hands all of it over in one call.

    A stream's first piece and its end go at once. What comes between waits until ``interval`` seconds have passed
    since its last piece: every piece wakes the replica, Serve's proxy twice, the gateway and the client, often on the
    processors that llama.cpp computes on.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._events: dict[Stream, list[Event]] = {}
        self._errors: dict[Stream, GroupQwenError] = {}

    def add(self, stream: Stream, event: Event) -> None:
        """Something is ready."""
        self._events.setdefault(stream, []).append(event)

    def fail(self, stream: Stream, error: GroupQwenError) -> None:
        """The request ends with an error; the first one counts."""
        self._errors.setdefault(stream, error)

    def deliver(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Hand over what is due; whether there is still a loop to take it."""
        if loop.is_closed():
            return False
        now = time.monotonic()
        due = [stream for stream in self._events if stream.over or now - stream.sent_at >= self._interval]
        events = {stream: self._events.pop(stream) for stream in due}
        for stream in due:
            stream.sent_at = now
        errors, self._errors = self._errors, {}
        if events or errors:
            loop.call_soon_threadsafe(_hand_out, events, errors)
        return True


def _hand_out(events: dict[Stream, list[Event]], errors: dict[Stream, GroupQwenError]) -> None:
    for stream in events.keys() | errors.keys():
        stream.put(events.get(stream, ()), errors.get(stream))
