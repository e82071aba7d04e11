"""Tasks behind the gateway: found, asked, relayed, refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from serve.errors import GroupQwenError, InvalidRequest, NotFound, QueueFull, RateLimited, UpstreamTimeout
from serve.gateway.transport.base import ReplicaLost
from serve.protocol.events import Delta, Event, Usage
from serve.settings.gateway import Timeouts
from serve.tasks.client import GroupClient
from tests.unit.gateway.group import group, running, settled
from tests.unit.replica.models import Scripted
from tests.unit.tasks.group import task_group

ANSWER: list[list[Event]] = [[Delta(text="Hallo")], [Delta(text=" Welt"), Delta(finish_reason="stop"), Usage(5, 2)]]
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


async def test_a_task_answers_at_the_gateway(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        answer = await running_group.client.get("/v1/languages")
    assert (answer.status_code, len(answer.json()["data"])) == (200, 92)
    assert (answer.headers["x-groupqwen-model"], answer.headers["x-groupqwen-route"]) == ("translation", "task")


async def test_a_task_is_no_model(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        listed = (await running_group.client.get("/v1/models")).json()["data"]
        asked = await running_group.client.post("/v1/chat/completions", json={**HELLO, "model": "translation"})
        health = (await running_group.client.get("/v1/health")).json()
    assert [one["id"] for one in listed] == ["m", "auto"]
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "model_not_found")
    assert health["tasks"] == {"translation": {"task": "translation", "state": "ready", "replicas": 1}}


async def test_a_task_that_is_not_deployed_says_how_to_add_it(tmp_path: Path) -> None:
    async with group(tmp_path, Scripted(*ANSWER)) as gateway, gateway.client() as client:
        answer = await client.post("/v1/detect", json={"text": "Hello"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "task_not_deployed")
    assert "serve.app:task" in error["message"] and "docs/translation.md" in error["message"]


async def test_a_task_that_starts_or_failed_is_not_waited_for(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        gateway = running_group.gateway
        found = []
        for status in ("DEPLOYING", "DEPLOY_FAILED"):
            await gateway.refresh(translation=None)
            gone = running("translation", status=status, replicas=0, task="translation", deployed_at=2.0)
            await gateway.refresh(translation=gone)
            answer = await running_group.client.get("/v1/languages")
            found.append((answer.status_code, answer.json()["error"]["code"]))
            readiness = await running_group.client.get("/readyz")
            assert (readiness.status_code, readiness.json()["waiting_for"]) == (503, ["translation"])
    assert found == [(503, "task_starting"), (503, "unavailable")]


async def test_a_lost_replica_of_a_task_is_asked_again(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        running_group.gateway.transport.failures = [ReplicaLost("gone", begun=False)]
        answer = await running_group.client.get("/v1/languages")
    assert answer.status_code == 200


async def test_a_task_that_takes_too_long_is_not_said_to_be_starting(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        gateway = running_group.gateway
        gateway.transport.failures = [ReplicaLost("nothing came", begun=False)]
        gateway.tasks.timeouts = Timeouts(task_first_byte=1e-9)
        answer = await running_group.client.get("/v1/languages")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "task_timeout")


async def test_a_task_answers_nobody_without_the_internal_token(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        app = httpx.ASGITransport(running_group.gateway.transport.apps["translation"])
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
            answer = await client.get("/v1/languages")
    assert answer.status_code == 403


async def test_a_task_needs_no_key_where_clients_do(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER), key_required=True) as running_group:
        refused = await running_group.client.get("/v1/languages")
        answer = await running_group.handler.group.chat(HELLO, seconds=10)
        forged = GroupClient(running_group.url, "not the token")
        with pytest.raises(GroupQwenError) as wrong:
            await forged.chat(HELLO, seconds=10)
        await forged.close()
    assert refused.status_code == 401
    assert answer["choices"][0]["message"]["content"] == "Hallo Welt"
    assert wrong.value.status == 401


async def test_a_key_without_the_scope_of_inference_is_refused(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(*ANSWER)) as running_group:
        key = await running_group.gateway.store.keys.create("files only", ["files"], None, None)
        headers = {"authorization": f"Bearer {key.secret}"}
        answer = await running_group.client.get("/v1/languages", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


async def test_a_stream_of_a_model_comes_to_a_task_as_it_is_written(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with task_group(tmp_path, "translation", Scripted(ANSWER[0], more, ANSWER[1])) as running_group:
        stream = running_group.handler.group.stream(HELLO, seconds=10)
        texts = []
        async for chunk in stream:
            texts += [one["delta"].get("content") for one in chunk["choices"]]
            if "Hallo" in texts:
                more.set()
    assert "".join(text for text in texts if text) == "Hallo Welt"


async def test_a_task_that_gives_up_stops_the_model(tmp_path: Path) -> None:
    model = Scripted(ANSWER[0], asyncio.Event())
    async with task_group(tmp_path, "translation", model) as running_group:
        stream = running_group.handler.group.stream(HELLO, seconds=10)
        await anext(stream)
        assert model.active == 1
        await stream.aclose()
        await settled(lambda: model.active == 0)
        with pytest.raises(UpstreamTimeout):
            await running_group.handler.group.chat(HELLO, seconds=0.2)
        await settled(lambda: model.active == 0)


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [(InvalidRequest("no", code="context_length_exceeded"), InvalidRequest, "context_length_exceeded")],
)
async def test_a_models_error_reaches_the_task_as_it_was(
    tmp_path: Path, raised: Exception, kind: type[GroupQwenError], code: str
) -> None:
    async with task_group(tmp_path, "translation", Scripted(raised)) as running_group:
        with pytest.raises(kind) as found:
            await running_group.handler.group.chat(HELLO, seconds=10)
        with pytest.raises(NotFound) as missing:
            await running_group.handler.group.chat({**HELLO, "model": "none"}, seconds=10)
    assert found.value.code == code
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


async def test_a_full_queue_is_waited_for_and_then_told(tmp_path: Path) -> None:
    model = Scripted(QueueFull("m", retry_after=0))
    async with task_group(tmp_path, "translation", model) as running_group:
        with pytest.raises(RateLimited) as found:
            await running_group.handler.group.chat(HELLO, seconds=10)
    assert (found.value.code, len(model.asked)) == ("queue_full", 5)
