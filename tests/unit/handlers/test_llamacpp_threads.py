"""Threads that end with their work."""

from __future__ import annotations

import threading

import pytest

from serve.handlers.llamacpp.threads import in_own_thread


async def test_work_is_done_in_a_thread_that_does_not_outlive_it() -> None:
    thread = await in_own_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    thread.join(timeout=10)
    assert not thread.is_alive()


async def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        await in_own_thread(fail)
