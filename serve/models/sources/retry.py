"""Tries again what may pass, three times in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from serve.models.errors import Interrupted, SourceFailed

T = TypeVar("T")

_TRIES = 3
_BACKOFF_SECONDS = 1.0
#: Longest wait that a source may ask for; a hub counts requests in windows of five minutes.
_LONGEST_WAIT_SECONDS = 330.0


def with_tries(attempt: Callable[[], T], label: str, note: Callable[[str], None]) -> T:
    """What ``attempt`` gives; tried again after ``Interrupted``. ``note`` is told, after the source's ``label``.

    Raises:
        SourceFailed: it failed three times, or in a way that does not pass.
    """
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            return attempt()
        except Interrupted as failure:
            reason, wait = str(failure), failure.wait
        if wait is not None and wait > _LONGEST_WAIT_SECONDS:
            raise SourceFailed(f"{reason}, and asks to wait {wait:.0f} s")
        if tries_left:
            pause = _BACKOFF_SECONDS * 2 ** (_TRIES - 1 - tries_left) if wait is None else wait
            after = f" after {wait:.0f} s" if wait else ""
            note(f"{label}: {reason}; trying again{after}")
            time.sleep(pause)
    raise SourceFailed(f"{reason} ({_TRIES} tries)")
