"""What the gateway reports to Ray's metrics endpoint (Prometheus), and as JSON to the page."""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import Any

from ray.util.metrics import Counter, Histogram
from starlette.types import Scope

_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]


class GatewayMetrics:
    """Counters of one gateway replica. Labels are bounded: addresses that do not exist share one."""

    def __init__(self) -> None:
        self._requests = Counter(
            "groupqwen_requests", description="Requests answered.", tag_keys=("route", "model", "status")
        )
        self._seconds = Histogram(
            "groupqwen_request_seconds",
            description="Time from a request's arrival to the end of its answer.",
            boundaries=_SECONDS,
            tag_keys=("route", "model"),
        )
        self._tokens = Counter(
            "groupqwen_tokens", description="Tokens of finished answers.", tag_keys=("model", "kind")
        )
        self._started = time.time()
        self._tally: Tally[str] = Tally()
        self._by_model: dict[str, Tally[str]] = {}

    def finished(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request. Routes set ``state["route_name"]``; what has none is ``other``."""
        state = scope["state"]
        tags = {"route": state.get("route_name", "other"), "model": state.get("model", "")}
        self._requests.inc(1, {**tags, "status": str(status)})
        self._seconds.observe(seconds, tags)
        self._tally[f"{status // 100}xx"] += 1

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of a finished answer."""
        if prompt:
            self._tokens.inc(prompt, {"model": model, "kind": "prompt"})
        if completion:
            self._tokens.inc(completion, {"model": model, "kind": "completion"})
        mine = self._by_model.setdefault(model, Tally())
        mine["requests"] += 1
        mine["prompt_tokens"] += prompt
        mine["completion_tokens"] += completion

    def body(self) -> dict[str, Any]:
        """The counts of this gateway replica since it started."""
        return {
            "object": "metrics",
            "uptime_seconds": round(time.time() - self._started, 1),
            "responses": dict(self._tally),
            "models": {name: dict(counts) for name, counts in sorted(self._by_model.items())},
        }
