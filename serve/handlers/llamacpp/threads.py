"""Which threads llama.cpp computes in."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serve.pictures.room import Held, run_in

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T], *held: Held) -> T:
    """Run ``work`` in a thread that ends with it, and give what it gives, or raise what it raises; ``held`` is closed
    as in ``run_in``.

    llama.cpp's threads come from OpenMP, which keeps a set of them for every thread that ever computed, as long as
    that thread lives. When all sets have more threads than there are processors, those that wait for each other,
    hundreds of times a token, sleep instead of spinning (libgomp's ``gomp_throttled_spin_count_var``): SmolLM2-135M
    did 64 tokens/s instead of 126 on 2 cores, because it had once been run in a thread that was kept. So whatever
    computes outside of the engine's thread does it here.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="llamacpp-open")
    try:
        return await run_in(thread, work, *held)
    finally:
        thread.shutdown(wait=False)
