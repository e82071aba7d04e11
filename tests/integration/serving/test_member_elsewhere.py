"""A member of the group whose model runs on another server: here the group itself."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.group import Group, Json, echo, gateway
from tests.load import stream


def member(name: str, address: str, **engine: Any) -> Json:
    """An application on the server at ``address``."""
    application = echo(name)
    application["args"] = {
        "id": name,
        "handler": "upstream",
        "engine": {"base_url": address, "model": "first", "retries": {"count": 0}, **engine},
    }
    return application


async def test_a_member_answers_with_what_its_server_says(group: Group) -> None:
    far = member("far", f"{group.url}/v1")
    await asyncio.to_thread(group.deploy, gateway(), echo("first", tokens=7), far)
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        answer = await stream(client, "far")
    assert answer.whole
    assert answer.text.count("token") == 7


async def test_a_server_that_is_down_is_an_error_and_the_replica_is_kept(group: Group) -> None:
    nowhere = member("far", "http://127.0.0.1:1/v1", breaker={"failures": 2, "open_seconds": 600})
    await asyncio.to_thread(group.deploy, gateway(), echo("first"), nowhere)
    replicas = group.replicas("far")
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        failed = [await stream(client, "far") for _ in range(3)]
        # Longer than Serve waits between two looks at a replica's health.
        await asyncio.sleep(5)
        assert (await stream(client, "first")).whole
    assert [(one.status, one.error and one.error["code"]) for one in failed] == [
        (502, "upstream_failed"),
        (502, "upstream_failed"),
        (503, "upstream_unavailable"),
    ]
    assert group.info("far")["load"]["circuit_open"] is True
    assert group.replicas("far") == replicas
