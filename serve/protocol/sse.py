"""Server-sent events: finished frames out, and frames found again in a stream of bytes."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

DONE = b"data: [DONE]\n\n"


def frame(data: object) -> bytes:
    """One event whose data is ``data`` as JSON."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip, which keeps a connection alive."""
    return f": {text}\n\n".encode()


class FrameReader:
    """Splits a byte stream, cut anywhere, into the data of its events; comments and other fields are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def pending(self) -> int:
        """Bytes of an event that is not complete yet."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of each event that ``chunk`` completes."""
        text = self._rest + chunk
        if b"\r" in text:  # Never in our own frames; the standard allows it. One at the end may be half of a CR LF.
            half = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(half).replace(b"\r\n", b"\n").replace(b"\r", b"\n") + half
        *whole, self._rest = text.split(b"\n\n")
        for event in whole:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)
