"""How many replicas a model should have, by what its engine says of itself; runs in Serve's controller."""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingContext

from serve.handlers.base import Load

#: Prompt tokens a second of an engine that has not measured its own yet.
_UNMEASURED = 100.0


def scaling_stats(load: Load) -> dict[str, float]:
    """What a replica reports to autoscaling: its sequences, running and waiting, and the seconds that its waiting
    prompts will take at the speed it has now."""
    seconds = load.queued_tokens / (load.prompt_tokens_per_second or _UNMEASURED)
    return {"sequences": float(load.active + load.queued), "prompt_seconds": seconds}


class EngineLoad:
    """A Serve autoscaling policy: ``policy_function: serve.replica.scaling:EngineLoad``.

    Serve's own policy counts requests. One request can ask for many choices, or bring a prompt that keeps the engine
    busy for minutes; both are counted here. The largest of three wishes wins: requests over
    ``target_ongoing_requests``, sequences over the same number, and seconds of waiting prompts over
    ``target_prompt_seconds``. Bounds, delays and factors of ``autoscaling_config`` are applied by Serve afterwards.

    Args:
        target_prompt_seconds: how long the prompts that wait at one replica may take to process.
    """

    def __init__(self, target_prompt_seconds: float = 5.0) -> None:
        if target_prompt_seconds <= 0:
            raise ValueError("target_prompt_seconds must be more than 0")
        self._target_seconds = target_prompt_seconds

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """The wanted number of replicas, and no state to keep."""
        if ctx.current_num_replicas == 0:
            return ctx.target_num_replicas, {}  # Serve wakes a sleeping deployment itself.
        target = ctx.config.get_target_ongoing_requests()
        sums = {name: sum(values.values()) for name, values in (ctx.aggregated_metrics or {}).items()}
        wishes = (
            ctx.total_num_requests / target,
            sums.get("sequences", 0.0) / target,
            sums.get("prompt_seconds", 0.0) / self._target_seconds,
        )
        return max(wishes), {}
