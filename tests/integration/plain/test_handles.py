"""A group on a Ray without HAProxy, where answers come through Serve handles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
import websockets

from tests.group import SLEEPS, Group, config, echo, gateway, running_group
from tests.load import stream

PORT = 8012
PLAIN_SERVE = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}


@pytest.fixture(scope="module")
def plain_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    home = tmp_path_factory.mktemp("plain")
    sleeper = echo("sleeper", deployment=SLEEPS)
    applications = [gateway(), echo("quick"), echo("slow", tokens=1000, token_ms=20), sleeper]
    with running_group(home, config(*applications, port=PORT), **PLAIN_SERVE) as running:
        yield running


async def test_streams_are_whole_and_equal_the_whole_answer(plain_group: Group) -> None:
    async with httpx.AsyncClient(base_url=plain_group.url, timeout=60) as client:
        found = await stream(client, "quick")
        assert found.whole and found.text.count("token") == 32
        body = {"model": "quick", "messages": [{"role": "user", "content": "hello"}]}
        whole = (await client.post("/v1/chat/completions", json=body)).json()
        assert whole["choices"][0]["message"]["content"] == found.text


async def test_tokens_come_as_they_are_made(plain_group: Group) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    async with httpx.AsyncClient(base_url=plain_group.url, timeout=60) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            seen = [await anext(lines) for _ in range(6)]
        assert any("token0" in line for line in seen)


async def test_errors_are_openai_errors_here_too(plain_group: Group) -> None:
    async with httpx.AsyncClient(base_url=plain_group.url, timeout=60) as client:
        unknown = await stream(client, "nobody")
        assert unknown.status == 404 and unknown.error is not None and "quick" in unknown.error["message"]
        bad = await stream(client, "quick", temperature="hot")
        assert bad.status == 400 and bad.error is not None and bad.error["param"] == "temperature"


async def test_the_engine_stops_when_the_client_leaves(plain_group: Group) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    async with httpx.AsyncClient(base_url=plain_group.url, timeout=60) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            await anext(answer.aiter_lines())
            assert plain_group.info("slow")["load"]["active"] == 1
        await asyncio.sleep(1.0)
        assert plain_group.info("slow")["load"]["active"] == 0


async def test_the_websocket_works_here_too(plain_group: Group) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{PORT}/v1/chat/stream") as socket:
        request = {"model": "quick", "messages": [{"role": "user", "content": "hello"}]}
        await socket.send(json.dumps({"type": "chat", "id": "a", "request": request}))
        messages: list[dict[str, str]] = []
        while not messages or messages[-1]["type"] == "chunk":
            messages.append(json.loads(await asyncio.wait_for(socket.recv(), 30)))
        assert messages[-1] == {"type": "done", "id": "a"}


async def test_a_sleeping_model_is_woken_here_too(plain_group: Group) -> None:
    assert plain_group.models()["sleeper"] == "asleep"
    async with httpx.AsyncClient(base_url=plain_group.url, timeout=60) as client:
        found = await asyncio.gather(*(stream(client, "sleeper") for _ in range(3)))
    assert [one.error for one in found if not one.whole] == []
    assert len(plain_group.replicas("sleeper")) == 1
