"""What vLLM's scheduler says after every step, kept for the replica's reports."""

from __future__ import annotations

import time
from typing import Any

from serve.handlers.llamacpp.rate import Rate


class EngineStats:
    """A stat logger of vLLM (``vllm.v1.metrics.loggers.StatLoggerBase``) that keeps the last numbers.

    Attributes:
        running: sequences that generate. waiting: sequences that wait for their turn or for memory.
    """

    def __init__(self) -> None:
        self.running = 0
        self.waiting = 0
        self._rate = Rate()

    def factory(self, config: Any, engine: int = 0) -> EngineStats:
        """What vLLM calls to make its logger: this object, which the handler has too."""
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, *others: Any, **named: Any) -> None:
        """Take the numbers of one step."""
        if scheduler_stats is not None:
            self.running = scheduler_stats.num_running_reqs
            self.waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
        if iteration_stats is not None:
            self._rate.add(iteration_stats.num_generation_tokens, time.monotonic())

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens a second over the last 10 s."""
        return self._rate.per_second(time.monotonic())

    def log(self) -> None:
        """Nothing to write: the replica reports."""

    def log_engine_initialized(self) -> None:
        """Nothing to write."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """The engine is not put to sleep."""
