"""What the gateway reports to Ray's metrics endpoint (Prometheus), and as JSON to the page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from typing import Any

from ray.util.metrics import Histogram
from starlette.types import Scope

from serve.metrics import REPORT_SECONDS, SummedCounter

_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]


class GatewayMetrics:
    """Counters of one gateway replica. Labels are bounded: addresses that do not exist share one."""

    def __init__(self) -> None:
        self._requests = SummedCounter("groupqwen_requests", "Requests answered.", ("route", "model", "status"))
        self._seconds = Histogram(
            "groupqwen_request_seconds",
            description="Time from a request's arrival to the end of its answer.",
            boundaries=_SECONDS,
            tag_keys=("route", "model"),
        )
        self._tokens = SummedCounter("groupqwen_tokens", "Tokens of finished answers.", ("model", "kind"))
        self._started = time.time()
        self._tally: Tally[str] = Tally()
        self._by_model: dict[str, Tally[str]] = {}

    def finished(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request. Routes set ``state["route_name"]``; what has none is ``other``."""
        state = scope["state"]
        route, model = state.get("route_name", "other"), state.get("model", "")
        self._requests.add(1, route, model, str(status))
        self._seconds.observe(seconds, {"route": route, "model": model})
        self._tally[f"{status // 100}xx"] += 1

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of a finished answer."""
        self._tokens.add(prompt, model, "prompt")
        self._tokens.add(completion, model, "completion")
        mine = self._by_model.setdefault(model, Tally())
        mine["requests"] += 1
        mine["prompt_tokens"] += prompt
        mine["completion_tokens"] += completion

    async def keep_reporting(self) -> None:
        """Hand sums to Ray until cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._requests.report()
            self._tokens.report()

    def body(self) -> dict[str, Any]:
        """The counts of this gateway replica since it started."""
        return {
            "object": "metrics",
            "uptime_seconds": round(time.time() - self._started, 1),
            "responses": dict(self._tally),
            "models": {name: dict(counts) for name, counts in sorted(self._by_model.items())},
        }
