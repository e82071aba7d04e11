"""An edited config deployed while the group runs: what changes, and what must not."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from serve.settings.model import ModelSettings
from tests.group import Group, echo, gateway
from tests.load import Load, stream

RULES = {"rules": [{"name": "code", "when": {"code": True}, "models": ["second"]}], "default": ["first"]}
GROWING = {
    "min_replicas": 1,
    "initial_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 1,
    "downscale_delay_s": 2,
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2,
}


async def test_new_sampling_defaults_and_rules_restart_nothing_and_lose_no_request(group: Group) -> None:
    slow: dict[str, Any] = {"tokens": 20, "token_ms": 10}
    before = gateway(routing={"default": ["first"]})
    after = gateway(routing={"default": ["second"]}, limits={"message_count": 3})
    await asyncio.to_thread(group.deploy, before, echo("first", **slow), echo("second", **slow))
    replicas = {name: group.replicas(name) for name in ("gateway", "first", "second")}
    async with Load(group.url, "first", 8) as load, httpx.AsyncClient(base_url=group.url) as client:
        assert (await stream(client, "auto")).headers["x-groupqwen-model"] == "first"
        changed = echo("first", sampling={"max_tokens": 5}, **slow)
        await asyncio.to_thread(group.deploy, after, changed, echo("second", **slow))
        assert (await stream(client, "auto")).headers["x-groupqwen-model"] == "second"
        assert (await stream(client, "first")).text.count("token") == 5
        too_many = await stream(client, "first", messages=[{"role": "user", "content": "x"}] * 4)
        assert too_many.error is not None and too_many.error["param"] == "messages"
    assert {name: group.replicas(name) for name in replicas} == replicas
    assert len(load.finished) > 8
    assert [one for one in load.finished if not one.whole] == []
    assert {one.text.count("token") for one in load.finished} == {20, 5}


async def test_a_model_comes_and_goes_and_the_others_are_not_touched(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(), echo("first", tokens=20, token_ms=10))
    replicas = {name: group.replicas(name) for name in ("gateway", "first")}
    async with Load(group.url, "first", 4) as load, httpx.AsyncClient(base_url=group.url) as client:
        await asyncio.to_thread(
            group.deploy, gateway(), echo("first", tokens=20, token_ms=10), echo("third", tokens=7)
        )
        assert (await stream(client, "third")).text.count("token") == 7
        await asyncio.to_thread(group.deploy, gateway(), echo("first", tokens=20, token_ms=10))
        gone = await stream(client, "third")
        assert gone.status == 404 and gone.error is not None
        assert gone.error["code"] == "model_not_found" and "first" in gone.error["message"]
    assert {name: group.replicas(name) for name in replicas} == replicas
    assert [one for one in load.finished if not one.whole] == []


async def test_a_rule_that_names_code_sends_code_to_its_model(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(routing=RULES), echo("first"), echo("second"))
    async with httpx.AsyncClient(base_url=group.url) as client:
        asked = {"role": "user", "content": "Write a Python function that adds two numbers."}
        found = await stream(client, "auto", messages=[asked])
        assert found.headers["x-groupqwen-model"] == "second"
        assert found.headers["x-groupqwen-route"] == "rule=code"
        assert (await stream(client, "auto")).headers["x-groupqwen-route"] == "default"


@pytest.mark.timeout(240)
async def test_a_model_grows_under_load_and_shrinks_when_idle_and_loses_no_request(group: Group) -> None:
    model = echo("first", deployment={"autoscaling_config": GROWING}, tokens=50, token_ms=20)
    await asyncio.to_thread(group.deploy, gateway(), model)
    [first] = group.replicas("first")
    async with Load(group.url, "first", 8) as load:
        await asyncio.to_thread(group.until, lambda: len(group.replicas("first")) == 2, "two replicas")
        assert first in group.replicas("first")
    # One stream goes on while the group shrinks: the replica that leaves ends its streams first.
    async with Load(group.url, "first", 1) as rest:
        await asyncio.to_thread(group.until, lambda: len(group.replicas("first")) == 1, "one replica")
    assert [one for one in load.finished + rest.finished if not one.whole] == []


@pytest.mark.timeout(240)
async def test_one_request_with_many_choices_makes_a_model_grow(
    group: Group, smollm2_settings: ModelSettings
) -> None:
    scaling = {**GROWING, "policy": {"policy_function": "serve.replica.scaling:EngineLoad"}}
    model = echo("first", deployment={"autoscaling_config": scaling})
    model["args"] = {
        **smollm2_settings.model_dump(exclude_none=True),
        "id": "first",
        "engine": {"context": 1024, "slots": 8},
    }
    await asyncio.to_thread(group.deploy, gateway(), model)
    assert len(group.replicas("first")) == 1
    # One request: by Serve's own policy, which counts requests, one replica would do.
    async with Load(group.url, "first", 1, n=8, max_tokens=400) as load:
        await asyncio.to_thread(group.until, lambda: len(group.replicas("first")) == 2, "two replicas")
    assert all(one.whole for one in load.finished)


async def test_a_config_that_a_model_cannot_take_leaves_the_old_behaviour(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(), echo("first", sampling={"max_tokens": 4}))
    broken = echo("first", sampling={"max_tokens": 4})
    broken["args"]["engine"] = {"tokenz": 4}
    with pytest.raises(AssertionError, match="tokenz"):
        await asyncio.to_thread(group.deploy, gateway(), broken, seconds=25)
    async with httpx.AsyncClient(base_url=group.url) as client:
        assert (await stream(client, "first")).whole
