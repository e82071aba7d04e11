"""Progress for people: one line a step, with a running clock on a terminal and a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG_EVERY_SECONDS = 15.0


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def waiting(what: str) -> Iterator[Callable[..., None]]:
    """Show that ``what`` takes time. Call the yielded function often; it takes a detail that may change."""
    begun = last = time.monotonic()
    terminal = sys.stdout.isatty()
    if not terminal:
        say(f"{what} ...")

    def tick(detail: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        line = f"{what}{': ' if detail else ''}{detail} ({now - begun:.0f} s)"
        if terminal:
            sys.stdout.write(f"\r\x1b[2K{line}")
            sys.stdout.flush()
        elif now - last >= _LOG_EVERY_SECONDS:
            last = now
            say(line)

    done = "failed"
    try:
        yield tick
        done = "done"
    finally:
        lead = "\r\x1b[2K" if terminal else ""
        say(f"{lead}{what}: {done} in {time.monotonic() - begun:.1f} s")
