"""What a task replica reports to Ray's metrics endpoint (Prometheus)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.util.metrics import Histogram

from serve.metrics import REPORT_SECONDS, SummedCounter

_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]


class TaskMetrics:
    """Counters of one replica; Ray adds the replica's own labels."""

    def __init__(self, task: str) -> None:
        self._requests = SummedCounter("groupqwen_task_requests", "Requests taken by a task.", ("task", "path"))
        self._seconds = Histogram(
            "groupqwen_task_request_seconds",
            description="Time from a request's arrival at a task to the end of its answer.",
            boundaries=_SECONDS,
            tag_keys=("task", "path"),
        )
        self._task = task

    @contextmanager
    def request(self, path: str) -> Iterator[None]:
        """Count and time one request."""
        self._requests.add(1, self._task, path)
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds.observe(time.monotonic() - begun, {"task": self._task, "path": path})

    async def keep_reporting(self) -> None:
        """Hand sums to Ray until cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._requests.report()
