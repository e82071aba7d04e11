"""What a model replica reports to Ray's metrics endpoint (Prometheus)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.util.metrics import Gauge, Histogram

from serve.handlers.base import Load
from serve.metrics import SummedCounter
from serve.protocol.events import Usage

_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]


class ReplicaMetrics:
    """Counters of one replica; Ray adds the replica's own labels."""

    def __init__(self, model: str) -> None:
        self._requests = SummedCounter(
            "groupqwen_model_requests", "Requests taken by a model.", ("model", "adapter", "kind")
        )
        self._seconds = Histogram(
            "groupqwen_model_request_seconds",
            description="Time from a request's arrival at a model to the end of its answer.",
            boundaries=_SECONDS,
            tag_keys=("model", "kind"),
        )
        self._tokens = SummedCounter(
            "groupqwen_model_tokens", "Tokens read and generated.", ("model", "adapter", "kind")
        )
        self._load = {
            name: Gauge(f"groupqwen_model_{name}", description=text, tag_keys=("model",))
            for name, text in (
                ("slots", "Sequences that can generate at once."),
                ("active", "Sequences that generate now."),
                ("queued", "Choices that wait for a slot."),
                ("queued_tokens", "Prompt tokens not yet processed."),
                ("tokens_per_second", "Generated tokens a second over the last 10 s."),
                ("prompt_tokens_per_second", "How quickly prompts are processed while there are any."),
                ("memory_bytes", "Memory of the model and its caches."),
                ("cache_use", "The part of the cache that is taken, 0 to 1."),
                ("circuit_open", "1 while a server that the model is on is not asked, because it does not answer."),
            )
        }
        self._model = model

    @contextmanager
    def request(self, kind: str, adapter: str = "") -> Iterator[None]:
        """Count and time one request."""
        self._requests.add(1, self._model, adapter, kind)
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds.observe(time.monotonic() - begun, {"model": self._model, "kind": kind})

    def count(self, usage: Usage, adapter: str = "") -> None:
        """Count the tokens of a finished generation. Adapters that answer are few: they are those published."""
        self._tokens.add(usage.prompt_tokens, self._model, adapter, "prompt")
        self._tokens.add(usage.completion_tokens, self._model, adapter, "completion")

    def report(self, load: Load) -> None:
        """Hand to Ray what was counted, and how busy the replica is."""
        self._requests.report()
        self._tokens.report()
        for name, gauge in self._load.items():
            gauge.set(float(getattr(load, name)), {"model": self._model})
