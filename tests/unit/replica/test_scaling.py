"""How many replicas the engines' own load asks for."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve.handlers.base import Load
from serve.replica.scaling import EngineLoad, scaling_stats


def context(requests: float, stats: list[dict[str, float]], *, running: int | None = None) -> AutoscalingContext:
    names = {name for one in stats for name in one}
    metrics: Any = {name: {f"replica-{i}": one[name] for i, one in enumerate(stats)} for name in names}
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="Model",
        app_name="m",
        current_num_replicas=len(stats) if running is None else running,
        target_num_replicas=1,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0,
        aggregated_metrics=metrics,
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(min_replicas=1, max_replicas=8, target_ongoing_requests=4),
    )


def test_requests_alone_ask_for_what_serves_own_policy_would() -> None:
    wanted, state = EngineLoad()(context(12, [{"sequences": 12.0, "prompt_seconds": 0.0}]))
    assert (wanted, state) == (3, {})


def test_a_request_with_many_choices_counts_each_of_them() -> None:
    assert EngineLoad()(context(1, [{"sequences": 16.0, "prompt_seconds": 0.0}]))[0] == 4


def test_waiting_prompts_of_all_replicas_count_by_the_seconds_they_will_take() -> None:
    stats = [{"sequences": 1.0, "prompt_seconds": 12.0}, {"sequences": 1.0, "prompt_seconds": 3.0}]
    assert EngineLoad(target_prompt_seconds=5)(context(2, stats))[0] == 3


def test_an_idle_model_wants_no_replicas_and_leaves_the_bounds_to_serve() -> None:
    assert EngineLoad()(context(0, [{"sequences": 0.0, "prompt_seconds": 0.0}]))[0] == 0


def test_before_the_first_report_requests_alone_count() -> None:
    assert EngineLoad()(context(8, [], running=1))[0] == 2


def test_a_sleeping_model_keeps_the_target_that_serve_set() -> None:
    assert EngineLoad()(context(0, [], running=0))[0] == 1


def test_a_target_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="target_prompt_seconds"):
        EngineLoad(target_prompt_seconds=0)


def test_a_replica_reports_its_sequences_and_the_seconds_of_its_waiting_prompts() -> None:
    load = Load(active=3, queued=2, queued_tokens=4000, prompt_tokens_per_second=800)
    assert scaling_stats(load) == {"sequences": 5.0, "prompt_seconds": 5.0}


def test_an_engine_that_has_not_measured_its_speed_is_taken_for_a_slow_one() -> None:
    assert scaling_stats(Load(queued_tokens=1000))["prompt_seconds"] == 10.0
