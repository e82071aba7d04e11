"""Requests that wait for a model which is not in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve.cluster import WakeFailed
from serve.gateway.transport.base import ReplicaLost
from serve.protocol.events import Delta, Usage
from serve.residency.ledger import Report
from serve.residency.resident import DoesNotFit
from tests.unit.gateway.group import CHAT, Group, asleep, group, listening, running, settled
from tests.unit.gateway.sockets import chat, hear, say, socket
from tests.unit.replica.models import HELLO, Scripted, replica, resident

Json = dict[str, Any]
ANSWER = (Delta(text="Hi"), Delta(finish_reason="stop"), Usage(1, 1))
WAKE = {"keepalive": 0.01}


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway whose only model is asleep, and is waked as soon as ``sleep.wakes`` is set."""
    async with group(tmp_path, Scripted(ANSWER, structured_output=True), wake=WAKE) as found:
        await found.refresh(m=asleep("m"))
        yield found


async def ask(group: Group, **fields: Any) -> httpx.Response:
    async with group.client() as client:
        return await client.post(CHAT, json=HELLO | fields)


def asked(group: Group, **fields: Any) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(ask(group, **fields))


async def test_a_request_wakes_the_model_and_is_answered(one: Group) -> None:
    one.sleep.wakes.set()
    answer = await ask(one)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    assert one.sleep.woken == ["m"] and one.members.get("m").ready


async def test_many_first_requests_wake_it_once(one: Group) -> None:
    asking = [asked(one, stream=bool(number % 2)) for number in range(9)]
    await settled(lambda: one.waking.waiting("m") == 9)
    one.sleep.wakes.set()
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert one.sleep.woken == ["m"] and one.waking.waiting("m") == 0


async def test_a_stream_is_kept_alive_and_goes_on_with_the_answer(one: Group) -> None:
    asking = asked(one, stream=True)
    await settled(lambda: one.waking.waiting("m"))
    await asyncio.sleep(0.05)
    one.sleep.wakes.set()
    answer = await asking
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["x-groupqwen-model"], answer.headers["x-groupqwen-route"]) == ("m", "named")
    assert answer.text.startswith(": waiting for m\n\n: waiting for m\n\n")
    assert '"Hi"' in answer.text and answer.text.endswith("data: [DONE]\n\n")


async def test_a_stream_whose_model_comes_quickly_begins_with_the_answer(one: Group) -> None:
    one.configure(wake={"keepalive": 60})
    one.sleep.wakes.set()
    answer = await ask(one, stream=True)
    assert "waiting" not in answer.text and '"Hi"' in answer.text


async def test_an_error_after_the_head_has_gone_out_ends_the_stream(one: Group) -> None:
    asking = asked(one, stream=True, temperature="hot")
    await settled(lambda: one.waking.waiting("m"))
    await asyncio.sleep(0.05)
    one.sleep.wakes.set()
    answer = await asking
    last = answer.text.strip().splitlines()[-1].removeprefix("data: ")
    assert answer.status_code == 200 and json.loads(last)["error"]["param"] == "temperature"


async def test_one_more_than_may_wait_is_refused(one: Group) -> None:
    one.configure(wake={"max_waiting": 2})
    asking = [asked(one) for _ in range(2)]
    await settled(lambda: one.waking.waiting("m") == 2)
    refused = await ask(one)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_waiting")
    assert refused.headers["retry-after"] == "5"
    one.sleep.wakes.set()
    assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200, 200]


async def test_the_place_of_a_client_that_leaves_is_free_at_once(one: Group) -> None:
    async with listening(one.app) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        for stream in (False, True):
            asking = asyncio.create_task(client.post(CHAT, json=HELLO | {"stream": stream}))
            await settled(lambda: one.waking.waiting("m") == 1)
            asking.cancel()
            await settled(lambda: one.waking.waiting("m") == 0)


async def test_a_wake_for_which_nobody_waits_any_more_is_given_up(one: Group) -> None:
    asking = asked(one)
    await settled(lambda: one.sleep.woken)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    one.sleep.wakes.set()
    await asyncio.sleep(0.01)
    assert one.applications["m"].running == 0
    assert (await ask(one)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_does_not_come_in_time_is_told(one: Group, stream: bool) -> None:
    one.configure(wake={"timeout": 0.05, "keepalive": 60})
    refused = await ask(one, stream=stream)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "wake_timeout")
    assert refused.headers["retry-after"] == "10" and "0.05 s" in refused.json()["error"]["message"]


async def test_a_model_that_cannot_be_started_is_told_and_the_reason_is_logged(
    one: Group, caplog: pytest.LogCaptureFixture
) -> None:
    one.sleep.failure = WakeFailed("the file is gone")
    one.sleep.wakes.set()
    refused = await ask(one)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "wake_failed")
    assert "the file is gone" not in refused.text
    assert [record.reason for record in caplog.records if hasattr(record, "reason")] == ["the file is gone"]


async def test_a_model_that_serve_gives_up_while_it_is_woken_is_told(
    one: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.gateway.waking._LOOK_SECONDS", 0.01)
    asking = asked(one)
    await settled(lambda: one.sleep.woken)
    await one.refresh(m=running("m", status="UNHEALTHY", replicas=0, may_sleep=True, wanted=1))
    assert (await asking).json()["error"]["code"] == "wake_failed"


async def test_a_model_that_leaves_the_group_while_it_is_woken_is_not_found(
    one: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.gateway.waking._LOOK_SECONDS", 0.01)
    asking = asked(one)
    await settled(lambda: one.sleep.woken)
    await one.refresh(m=None)
    assert (await asking).status_code == 404


async def test_what_a_sleeping_model_cannot_do_is_refused_without_waking_it(one: Group) -> None:
    async with one.client() as client:
        one.members._members["m"].info["capabilities"]["embeddings"] = False  # type: ignore[index]
        refused = await client.post("/v1/embeddings", json={"model": "m", "input": "a"})
    assert refused.status_code == 400 and one.sleep.woken == []


async def test_a_socket_says_that_its_request_waits(one: Group) -> None:
    async with socket(one) as client:
        await chat(client, "a")
        assert await hear(client) == {"type": "waiting", "id": "a", "model": "m"}
        one.sleep.wakes.set()
        kinds = {(await hear(client))["type"]}
        while "done" not in kinds:
            kinds.add((await hear(client))["type"])
        assert "chunk" in kinds and "error" not in kinds


async def test_cancelling_on_a_socket_frees_the_place(one: Group) -> None:
    async with socket(one) as client:
        await chat(client, "a")
        await settled(lambda: one.waking.waiting("m"))
        await say(client, type="cancel", id="a")
        while (message := await hear(client))["type"] == "waiting":
            pass
        assert (message["type"], one.waking.waiting("m")) == ("cancelled", 0)


# --- models whose replica stays and whose memory is given back ---


class Fragile(Scripted):
    """Cannot be loaded while it has a failure."""

    failure: Exception | None = None

    async def load(self) -> None:
        if self.failure:
            raise self.failure


async def rest(group: Group, handler: Scripted) -> None:
    """Let a model's replica be one whose model has been loaded before and is unloaded now."""
    handler.settings = handler.settings.model_copy(update={"residency": "on_demand"})
    found = resident(handler)
    await found.load()
    found.state = "resting"
    group.transport.apps["m"] = replica(handler, at=found).asgi


@pytest_asyncio.fixture
async def handler() -> Fragile:
    return Fragile(ANSWER)


@pytest_asyncio.fixture
async def resting(tmp_path: Path, handler: Fragile) -> AsyncIterator[Group]:
    """A gateway whose only model has been unloaded, which it has not heard of yet."""
    async with group(tmp_path, handler, wake=WAKE) as found:
        await rest(found, handler)
        yield found


async def test_a_model_whose_replica_says_that_it_rests_is_loaded(resting: Group) -> None:
    assert resting.members.get("m").state == "ready"
    assert (await ask(resting)).status_code == 200
    assert resting.sleep.woken == []


async def test_a_model_of_which_the_ledger_says_that_it_rests_is_loaded_first(resting: Group) -> None:
    resting.sleep.reports[:] = [Report("m", "resting", 10, on_demand=True)]
    await resting.refresh()
    assert resting.members.get("m").state == "resting"
    asking = asked(resting)
    await settled(lambda: resting.waking.waiting("m"))
    resting.sleep.reports[:] = [Report("m", "loaded", 10, on_demand=True)]
    assert (await asking).status_code == 200
    assert len([path for _, path, _ in resting.transport.asked if path == CHAT]) == 1


async def test_a_replica_that_is_lost_while_it_loads_is_asked_again(resting: Group) -> None:
    resting.sleep.reports[:] = [Report("m", "loading", 10, on_demand=True)]
    await resting.refresh()
    resting.transport.failures.append(ReplicaLost("killed", begun=False))
    asking = asked(resting)
    await settled(lambda: not resting.transport.failures)
    resting.sleep.reports.clear()
    assert (await asking).status_code == 200


async def test_a_model_that_cannot_be_loaded_is_told(
    resting: Group, handler: Fragile, caplog: pytest.LogCaptureFixture
) -> None:
    handler.failure = OSError("the file is gone")
    refused = await ask(resting)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "load_failed")
    assert "the file is gone" not in refused.text and "the file is gone" in caplog.text


async def test_a_model_for_which_there_is_no_room_is_told(
    resting: Group, handler: Fragile, caplog: pytest.LogCaptureFixture
) -> None:
    handler.failure = DoesNotFit("it needs 9.00 GB")
    refused = await ask(resting)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "does_not_fit")
    assert "9.00 GB" not in refused.text
    assert "it needs 9.00 GB" in [record.reason for record in caplog.records if hasattr(record, "reason")]


# --- auto ---


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Group]:
    """A strong model that sleeps, preferred by the rules, and a small one that is awake."""
    routing = {"default": ["strong", "small"]}
    strong = Scripted(ANSWER, id="strong", tools=True)
    async with group(tmp_path, strong, Scripted(ANSWER, id="small"), routing=routing) as found:
        await found.refresh(strong=asleep("strong"))
        found.sleep.wakes.set()
        yield found


async def test_auto_takes_a_model_in_memory_before_one_that_sleeps(two: Group) -> None:
    assert (await ask(two, model="auto")).headers["x-groupqwen-model"] == "small"
    assert two.sleep.woken == []


async def test_auto_wakes_where_the_policy_says_so(two: Group) -> None:
    two.configure(routing={"default": ["strong", "small"], "wake": True})
    assert (await ask(two, model="auto")).headers["x-groupqwen-model"] == "strong"


async def test_auto_wakes_the_only_model_that_can_do_what_is_asked(two: Group) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = await ask(two, model="auto", tools=[tool])
    assert answer.headers["x-groupqwen-model"] == "strong"


async def test_auto_wakes_a_model_when_all_sleep(two: Group) -> None:
    await two.refresh(small=asleep("small"))
    assert (await ask(two, model="auto")).headers["x-groupqwen-model"] == "strong"
    assert two.sleep.woken == ["strong"]


async def test_auto_decides_anew_when_a_woken_model_proves_unfit(tmp_path: Path) -> None:
    async with group(tmp_path, Scripted(ANSWER, id="old"), Scripted(ANSWER, id="new", chat=False)) as found:
        found.members._members.clear()
        await found.refresh(old=asleep("old", handler="echo"), new=asleep("new", handler="llamacpp"))
        found.configure(routing={"default": ["new", "old"]})
        found.sleep.wakes.set()
        assert (await ask(found, model="auto")).headers["x-groupqwen-model"] == "old"
        assert found.sleep.woken == ["new", "old"]
