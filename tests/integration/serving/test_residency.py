"""Models that sleep and models that make room for each other, on a real Serve."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import psutil
import pytest

from serve.settings.model import ModelSettings
from tests.group import SLEEPS, Group, echo, gateway, model_application
from tests.load import stream


async def deploy(group: Group, *applications: Any, states: dict[str, str]) -> None:
    await asyncio.to_thread(group.deploy, *applications, states=states)


def any_replica(group: Group, application: str) -> bool:
    """Whether it has replicas, whatever their state."""
    deployments = group.details()[application]["deployments"].values()
    return any(one["replicas"] for one in deployments)


async def until_asleep(group: Group, model: str) -> None:
    await asyncio.to_thread(group.until, lambda: group.models().get(model) == "asleep", f"{model} is asleep")


@pytest.mark.timeout(240)
async def test_a_model_sleeps_and_wakes_once_for_all_who_ask(group: Group) -> None:
    model = echo("sleeper", deployment=SLEEPS, tokens=8)
    await deploy(group, gateway(wake={"keepalive": 0.2}), model, states={"sleeper": "asleep"})
    assert group.replicas("sleeper") == {}
    assert group.client.get("/readyz").status_code == 200
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        streams = [asyncio.create_task(stream(client, "sleeper")) for _ in range(4)]
        body = {"model": "sleeper", "messages": [{"role": "user", "content": "hello"}]}
        wholes = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(4)]
        assert [one.error for one in await asyncio.gather(*streams) if not one.whole] == []
        assert {one.status_code for one in await asyncio.gather(*wholes)} == {200}
        assert len(group.replicas("sleeper")) == 1
        assert any(comment == ": waiting for sleeper" for one in streams for comment in one.result().comments)
    await until_asleep(group, "sleeper")
    assert group.replicas("sleeper") == {}
    # Woken a second time: the proxy has been replaced since, and connections to the old one must not be used.
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        assert (await stream(client, "auto")).headers["x-groupqwen-model"] == "sleeper"


@pytest.mark.timeout(240)
async def test_too_many_are_refused_and_who_leaves_makes_room(group: Group) -> None:
    model = echo("sleeper", deployment=SLEEPS, tokens=8)
    await deploy(group, gateway(wake={"max_waiting": 2}), model, states={"sleeper": "asleep"})
    # One that is leaving still answers.
    await asyncio.to_thread(group.until, lambda: not any_replica(group, "sleeper"), "no replica is left")
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        waiting = [asyncio.create_task(stream(client, "sleeper")) for _ in range(2)]
        await asyncio.sleep(0.3)
        refused = await stream(client, "sleeper")
        assert refused.status == 503 and refused.error is not None
        assert refused.error["code"] == "too_many_waiting" and "retry-after" in refused.headers
        waiting[0].cancel()
        await asyncio.sleep(0.3)
        third = asyncio.create_task(stream(client, "sleeper"))
        found = await asyncio.gather(waiting[1], third)
        assert [one.error for one in found if not one.whole] == []


@pytest.mark.timeout(240)
async def test_a_model_that_cannot_wake_is_told_within_its_time(group: Group) -> None:
    broken = echo("broken", deployment=SLEEPS)
    broken["args"] = {
        "id": "broken",
        "handler": "llamacpp",
        "weights": {"file": "none.gguf", "bytes": 1, "sha256": "0" * 64, "sources": [{"path": "/does/not/exist"}]},
    }
    wake = {"timeout": 60}
    await deploy(group, gateway(wake=wake), broken, echo("first"), states={"broken": "asleep", "first": "ready"})
    async with httpx.AsyncClient(base_url=group.url, timeout=90) as client:
        found = await stream(client, "broken")
        # The head of a stream may have gone out before Serve has given up.
        assert found.error is not None and found.error["code"] == "wake_failed"
        assert (await stream(client, "first")).whole


def on_demand(settings: ModelSettings, **engine: Any) -> dict[str, Any]:
    """A real model that gives its memory back when others need it."""
    args = settings.model_dump(mode="json", exclude_none=True) | {"residency": "on_demand", "engine": engine}
    return model_application(args, user_config={"sampling": {"temperature": 0, "max_tokens": 8}})


def memory(group: Group) -> dict[str, tuple[str, int, int]]:
    """State, memory now and estimate of every model."""
    listed = group.client.get("/v1/models").json()["data"]
    return {
        one["id"]: (one["state"], one["memory_bytes"], one["memory_estimate_bytes"])
        for one in listed
        if one["id"] != "auto" and "parent" not in one
    }


def turned(group: Group, awake: str, resting: str) -> bool:
    found = memory(group)
    return found[awake][0] == "ready" and found[resting][0] == "resting"


@pytest.mark.timeout(300)
async def test_two_models_share_the_memory_of_one(
    group: Group, smollm2_settings: ModelSettings, qwen_settings: ModelSettings
) -> None:
    # Room for either of them, as the group's ``GROUPQWEN_MEMORY_LIMIT`` says, and not for both.
    small = on_demand(smollm2_settings, context=4096, slots=8)
    strong = on_demand(qwen_settings, context=8192, slots=12)
    names = (smollm2_settings.id, qwen_settings.id)
    # Started one after the other, so that it is known which of them had to make room.
    await deploy(group, gateway(), small, states={names[0]: "ready"})
    await deploy(group, gateway(), small, strong, states={names[0]: "resting", names[1]: "ready"})
    replicas = {name: group.replicas(name) for name in names}
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        for awake, resting in [names, names[::-1], names]:
            assert (await stream(client, awake)).whole
            await asyncio.to_thread(group.until, lambda: turned(group, awake, resting), f"{resting} rests")  # noqa: B023
            _, held, estimate = memory(group)[awake]
            assert abs(held - estimate) < 0.15 * held
            assert memory(group)[resting][1] < 300e6
        # Both at once: each waits for the other to be idle.
        found = await asyncio.gather(*(stream(client, name) for name in names for _ in range(3)))
        assert [one.error for one in found if not one.whole] == []
    assert {name: group.replicas(name) for name in names} == replicas


@pytest.mark.timeout(240)
async def test_a_ledger_that_is_killed_comes_back_and_knows_what_is_held(
    group: Group, smollm2_settings: ModelSettings
) -> None:
    small = on_demand(smollm2_settings, context=1024, slots=1)
    await deploy(group, gateway(), small, states={smollm2_settings.id: "ready"})
    [ledger] = workers("NodeLedger")
    ledger.kill()
    await asyncio.to_thread(group.until, lambda: workers("NodeLedger") not in ([], [ledger]), "a new ledger")
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        assert (await stream(client, smollm2_settings.id)).whole
    await asyncio.to_thread(
        group.until, lambda: (memory(group)[smollm2_settings.id][1] or 0) > 100e6, "it knows what is held"
    )


def workers(actor: str) -> list[psutil.Process]:
    """The processes of Ray's actors of a class, whose name Ray gives to them."""
    return [one for one in psutil.process_iter(["cmdline"]) if f"ray::{actor}" in " ".join(one.info["cmdline"] or ())]
