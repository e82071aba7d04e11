"""Replicas that die, queues that fill, clients that leave."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import httpx
import pytest

from tests.group import BACKPRESSURE, Group, echo, gateway
from tests.load import Stream, stream


@pytest.mark.timeout(240)
async def test_a_killed_replica_loses_only_what_had_begun_on_it_and_comes_back(group: Group) -> None:
    model = echo("first", deployment={"num_replicas": 2}, tokens=100, token_ms=30)
    await asyncio.to_thread(group.deploy, gateway(), model)
    replicas = group.replicas("first")
    assert len(replicas) == 2
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        await both_answer(group, client)
        begun = [asyncio.create_task(stream(client, "first")) for _ in range(8)]
        await asyncio.sleep(1.0)
        os.kill(next(iter(replicas.values())), signal.SIGKILL)
        late = [asyncio.create_task(stream(client, "first", max_tokens=10)) for _ in range(8)]
        streams: list[Stream] = await asyncio.gather(*begun)
        assert [one for one in await asyncio.gather(*late) if not one.whole] == []
    lost = [one for one in streams if not one.whole]
    assert 0 < len(lost) < 8
    for one in lost:
        assert one.chunks > 1 and not one.done
        assert one.error is not None and one.error["code"] == "model_lost"
    # Serve lists the dead one until its next look at the replicas' health.
    await asyncio.to_thread(
        group.until,
        lambda: len(found := group.replicas("first")) == 2 and set(found) != set(replicas),
        "two replicas again, one of them new",
    )


async def both_answer(group: Group, client: httpx.AsyncClient) -> None:
    """Wait until two requests go to two replicas: Serve's proxy hears of a replica some time after it runs."""
    until = time.monotonic() + 60
    while True:
        streams = [asyncio.create_task(stream(client, "first", max_tokens=40)) for _ in range(2)]
        await asyncio.sleep(0.6)
        load = (await asyncio.to_thread(group.info, "first"))["load"]
        await asyncio.gather(*streams)
        if load["active"] == 1:
            return
        assert time.monotonic() < until, f"still one replica answers all: {load}"


@pytest.mark.timeout(240)
async def test_requests_wait_for_the_only_replica_to_come_back(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(timeouts={"replica_wait": 60}), echo("first"))
    [pid] = group.replicas("first").values()
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        os.kill(pid, signal.SIGKILL)
        streams = await asyncio.gather(*(stream(client, "first") for _ in range(8)))
    assert [one.error for one in streams if not one.whole] == []


async def test_a_full_queue_is_refused_with_a_time_to_come_back(group: Group) -> None:
    narrow = {"max_ongoing_requests": 2, "max_queued_requests": 2, "backpressure_config": BACKPRESSURE}
    await asyncio.to_thread(group.deploy, gateway(), echo("first", deployment=narrow, tokens=20, token_ms=50))
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        streams = await asyncio.gather(*(stream(client, "first") for _ in range(12)))
    refused = [one for one in streams if one.status == 429]
    assert refused and len(refused) + len([one for one in streams if one.whole]) == 12
    for one in refused:
        assert one.error is not None and one.error["code"] == "queue_full"
        assert one.headers["retry-after"] == "1"


async def test_the_engine_stops_within_a_second_of_the_client_leaving(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(), echo("first", tokens=1000, token_ms=20))
    body = {"model": "first", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            await anext(answer.aiter_lines())
            assert group.info("first")["load"]["active"] == 1
        await asyncio.sleep(1.0)
        assert group.info("first")["load"]["active"] == 0


async def test_the_engine_stops_when_a_client_leaves_that_wanted_no_stream(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(), echo("first", tokens=1000, token_ms=20))
    body = {"model": "first", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(base_url=group.url) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=body, timeout=1.0)
        await asyncio.sleep(1.0)
        assert group.info("first")["load"]["active"] == 0


async def test_a_model_that_cannot_start_is_named_and_the_others_answer(group: Group) -> None:
    broken = echo("broken")
    broken["args"] = {
        "id": "broken",
        "handler": "llamacpp",
        "weights": {"file": "none.gguf", "bytes": 1, "sha256": "0" * 64, "sources": [{"path": "/does/not/exist"}]},
    }
    with pytest.raises(AssertionError, match="still not"):
        await asyncio.to_thread(group.deploy, gateway(), echo("first"), broken, seconds=20)
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        assert (await stream(client, "first")).whole
        found = await stream(client, "broken")
        assert found.status == 503 and "retry-after" in found.headers
        ready = await client.get("/readyz")
        assert ready.status_code == 503 and ready.json()["waiting_for"] == ["broken"]
