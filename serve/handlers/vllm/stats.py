"""What vLLM's scheduler says after every step, kept for the replica's reports."""

from __future__ import annotations

import time
from typing import Any

from serve.handlers.rate import Rate, Speed


class EngineStats:
    """A stat logger of vLLM (``vllm.v1.metrics.loggers.StatLoggerBase``) that keeps the last numbers.

    Attributes:
        running: sequences that generate. waiting: sequences that wait for their turn or for memory.
        cache_use: the part of the cache that is taken, 0 to 1.
    """

    def __init__(self) -> None:
        self.running = 0
        self.waiting = 0
        self.cache_use = 0.0
        self._rate = Rate()
        self._prompt_speed = Speed()

    def factory(self, config: Any, engine: int = 0) -> EngineStats:
        """What vLLM calls to make its logger: this object, which the handler has too."""
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, *others: Any, **named: Any) -> None:
        """Take the numbers of one step."""
        if scheduler_stats is not None:
            self.running = scheduler_stats.num_running_reqs
            self.waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            self.cache_use = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self._rate.add(iteration_stats.num_generation_tokens, time.monotonic())
            for one in iteration_stats.finished_requests:
                self._prompt_speed.add(one.num_prompt_tokens - one.num_cached_tokens, one.prefill_time)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens a second over the last 10 s."""
        return self._rate.per_second(time.monotonic())

    @property
    def prompt_tokens_per_second(self) -> float:
        """How quickly prompts are processed, between their first step and their first token."""
        return self._prompt_speed.per_second

    def log(self) -> None:
        """Nothing to write: the replica reports."""

    def log_engine_initialized(self) -> None:
        """Nothing to write."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """The engine is not put to sleep."""
