"""A model on vLLM behind the gateway, on real Ray Serve: it answers, it dies, it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import httpx
import psutil
import pytest

from tests.group import BACKPRESSURE, Group, gateway
from tests.load import stream
from tests.vllm import ENGINE, smollm2_settings

#: Serve's default prompt is the template's own, under which this model often answers nonsense.
SYSTEM = "You are a helpful assistant."
NO_ENGINES = ("reaper.py", "resource_tracker")


def model() -> dict[str, Any]:
    settings = smollm2_settings()
    assert settings.weights is not None
    weights = settings.weights.model_dump(mode="json", exclude_none=True)
    return {
        "name": settings.id,
        "route_prefix": f"/m/{settings.id}",
        "import_path": "serve.app:model",
        "args": {"id": settings.id, "handler": "vllm", "weights": weights, "engine": ENGINE},
        "deployments": [
            {
                "name": "Model",
                "num_replicas": 1,
                "max_ongoing_requests": 16,
                "max_queued_requests": 16,
                "backpressure_config": BACKPRESSURE,
                "ray_actor_options": {"num_cpus": 0.1},
                "health_check_period_s": 1,
                "graceful_shutdown_timeout_s": 5,
                "user_config": {"system_prompt": SYSTEM, "sampling": {"temperature": 0, "max_tokens": 400}},
            }
        ],
    }


def engine_of(group: Group, name: str) -> tuple[int, psutil.Process]:
    """The one replica of a model, and its engine: its only child that is neither a watcher nor of Python's own."""

    def look() -> tuple[int, psutil.Process] | None:
        found = [(pid, child) for pid in group.replicas(name).values() for child in _engines(pid)]
        return found[0] if len(found) == 1 else None

    found = group.until(look, "one replica has one engine")
    assert found is not None
    return found


def _engines(replica: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(replica).children()
        return [one for one in children if not any(part in " ".join(one.cmdline()) for part in NO_ENGINES)]
    except psutil.NoSuchProcess:
        return []


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.timeout(400)
async def test_a_dead_engine_ends_what_it_began_and_is_replaced_and_waited_for(
    group: Group, smollm2_checkpoint: object
) -> None:
    one = model()
    name = one["name"]
    await asyncio.to_thread(group.deploy, gateway(timeouts={"replica_wait": 120}), one, seconds=180)
    async with httpx.AsyncClient(base_url=group.url, timeout=180) as client:
        capital = [{"role": "user", "content": "What is the capital of France?"}]
        answer = await stream(client, name, messages=capital)
        assert answer.whole and "Paris" in answer.text
        assert answer.headers["x-groupqwen-model"] == name
        listed = (await client.get(f"/v1/models/{name}")).json()
        assert listed["handler"] == "vllm"
        _, engine = await asyncio.to_thread(engine_of, group, name)
        endless = {"messages": [{"role": "user", "content": "Count."}], "logit_bias": {"2": -100}}
        begun = asyncio.create_task(stream(client, name, **endless))
        await asyncio.to_thread(group.until, lambda: group.info(name)["load"]["active"] == 1, "it generates")
        engine.kill()
        lost = await begun
        assert lost.chunks > 1 and not lost.done
        assert lost.error is not None and lost.error["code"] == "model_lost"
        # Not begun, so it is sent again until Serve has another replica.
        again = await stream(client, name, messages=capital)
        assert again.whole and "Paris" in again.text
    # A replica that is killed cannot end its engine, which must not outlive it.
    replica, engine = await asyncio.to_thread(engine_of, group, name)
    os.kill(replica, signal.SIGKILL)
    await asyncio.to_thread(group.until, lambda: not runs(engine), "the engine ended with its replica")
    _, engine = await asyncio.to_thread(engine_of, group, name)
    await asyncio.to_thread(group.deploy, gateway())
    await asyncio.to_thread(group.until, lambda: not runs(engine), "no engine is left")
