"""A real model's replica that is killed, and real requests whose clients leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import httpx
import pytest
import websockets

from tests.group import Group
from tests.load import stream

MODEL = "smollm2-135m"
STORY = [{"role": "user", "content": "Tell a very long story about the sea and a lighthouse."}]


@pytest.mark.timeout(300)
async def test_a_killed_replica_ends_its_streams_with_an_error_and_comes_back(group: Group) -> None:
    [(replica, pid)] = group.replicas(MODEL).items()
    async with httpx.AsyncClient(base_url=group.url, timeout=180) as client:
        begun = [
            asyncio.create_task(stream(client, MODEL, messages=STORY, max_tokens=1000, temperature=1))
            for _ in range(8)
        ]
        await asyncio.to_thread(group.until, lambda: group.info(MODEL)["load"]["active"] == 8, "eight streams")
        await asyncio.sleep(1.0)
        os.kill(pid, signal.SIGKILL)
        late = [asyncio.create_task(stream(client, MODEL, max_tokens=5)) for _ in range(4)]
        streams = await asyncio.gather(*begun)
        assert [one.error for one in await asyncio.gather(*late) if not one.whole] == []
    for one in streams:
        assert one.chunks > 1 and not one.done
        assert one.error is not None and one.error["code"] == "model_lost"
    assert set(group.replicas(MODEL)) != {replica}


async def test_the_real_engine_stops_within_a_second_of_the_client_leaving(group: Group) -> None:
    body = {"model": MODEL, "messages": STORY, "stream": True, "max_tokens": 2000, "temperature": 1}
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            await anext(answer.aiter_lines())
            assert group.info(MODEL)["load"]["active"] == 1
        await asyncio.sleep(1.0)
        assert group.info(MODEL)["load"]["active"] == 0


async def test_a_socket_runs_several_chats_and_cancels_one_in_the_engine(group: Group) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{group.port}/v1/chat/stream") as socket:
        for name, tokens in (("long", 2000), ("short", 12)):
            request = {"model": MODEL, "messages": STORY, "max_tokens": tokens, "temperature": 1}
            await socket.send(json.dumps({"type": "chat", "id": name, "request": request}))
        ended: dict[str, dict[str, object]] = {}
        chunks = {"long": 0, "short": 0}
        while len(ended) < 2:
            message = json.loads(await asyncio.wait_for(socket.recv(), 60))
            if message["type"] == "chunk":
                chunks[message["id"]] += 1
                continue
            ended[message["id"]] = message
            if message["id"] == "short":
                await socket.send(json.dumps({"type": "cancel", "id": "long"}))
    assert ended["short"]["type"] == "done" and ended["long"]["type"] == "cancelled"
    assert min(chunks.values()) > 3
    await asyncio.sleep(1.0)
    assert group.info(MODEL)["load"]["active"] == 0
