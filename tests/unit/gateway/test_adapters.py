"""``id:adapter`` at the gateway: who answers, what is listed, and what is said when it cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.unit.gateway.group import CHAT, Group, group
from tests.unit.replica.adapters import Kept, Taking, kept, refusal
from tests.unit.replica.models import echo, replica

HELLO = [{"role": "user", "content": "Hello"}]


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Group, Kept]]:
    async with gateway(tmp_path) as found:
        yield found


@asynccontextmanager
async def gateway(folder: Path, **user_config: Any) -> AsyncIterator[tuple[Group, Kept]]:
    """A gateway over a model that takes adapters, and one that does not."""
    handler = Taking()
    async with kept(folder / "m", handler) as adapters, group(folder, handler, echo("plain"), **user_config) as found:
        found.transport.apps["m"] = replica(handler, adapters.adapters).asgi
        yield found, adapters


async def ask(found: Group, model: str, **fields: Any) -> Any:
    async with found.client() as client:
        return await client.post(CHAT, json={"model": model, "messages": HELLO, **fields})


async def test_the_adapters_own_model_answers_in_the_adapters_name(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    key = adapters.publish("a")
    await adapters.until(lambda: adapters.states() == {"a": "ready"})
    answer = await ask(found, "m:a")
    assert answer.status_code == 200 and answer.json()["model"] == "m:a"
    assert answer.headers["x-groupqwen-model"] == "m:a"
    assert found.transport.asked[-1][0] == "m"
    assert adapters.handler.asked[-1][0].adapter == key
    streamed = await ask(found, "m:a", stream=True)
    assert '"model":"m:a"' in streamed.text and streamed.text.endswith("data: [DONE]\n\n")
    assert streamed.headers["x-groupqwen-model"] == "m:a"


async def test_the_model_alone_is_asked_as_ever(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.publish("a")
    await adapters.until(lambda: adapters.states() == {"a": "ready"})
    answer = await ask(found, "m")
    assert (answer.json()["model"], answer.headers["x-groupqwen-model"]) == ("m", "m")
    assert adapters.handler.asked[-1][0].adapter is None


async def test_completions_take_adapters_and_embeddings_do_not(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.publish("a")
    await adapters.until(lambda: adapters.states() == {"a": "ready"})
    async with found.client() as client:
        completed = await client.post("/v1/completions", json={"model": "m:a", "prompt": "Hello"})
        assert completed.status_code == 200 and completed.json()["model"] == "m:a"
        embedded = await client.post("/v1/embeddings", json={"model": "m:a", "input": "Hello"})
        assert (embedded.status_code, embedded.json()["error"]["param"]) == (400, "model")


async def test_usage_and_metrics_are_counted_for_the_model(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.publish("a")
    await adapters.until(lambda: adapters.states() == {"a": "ready"})
    await ask(found, "m:a")
    assert found.metrics.body()["models"] == {"m": {"requests": 1, "prompt_tokens": 3, "completion_tokens": 1}}


@pytest.mark.parametrize("name", ["m:none", "m:", "m:a:b", "m:../x", "m:" + "x" * 500, "m:ä"])
async def test_an_unknown_adapter_is_not_found_among_those_that_there_are(
    served: tuple[Group, Kept], name: str
) -> None:
    found, adapters = served
    adapters.publish("a")
    await adapters.until(lambda: adapters.states() == {"a": "ready"})
    answer = await ask(found, name)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "adapter_not_found"
    assert "Its adapters: a." in answer.json()["error"]["message"]


async def test_a_model_that_takes_no_adapters_says_so(served: tuple[Group, Kept]) -> None:
    found, _ = served
    answer = await ask(found, "plain:a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "adapter_not_found")


async def test_an_adapter_of_a_model_that_there_is_not(served: tuple[Group, Kept]) -> None:
    found, _ = served
    answer = await ask(found, "none:a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "'none'" in answer.json()["error"]["message"]


async def test_auto_takes_no_adapter(served: tuple[Group, Kept]) -> None:
    found, _ = served
    answer = await ask(found, "auto:a")
    assert answer.status_code == 400 and "id:adapter" in answer.json()["error"]["message"]


async def test_a_refused_adapter_has_a_status_of_its_own_and_its_reason(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.handler.failures["bad"] = refusal("rank 9 is too much")
    adapters.publish("bad")
    await adapters.until(lambda: adapters.states() == {"bad": "refused"})
    answer = await ask(found, "m:bad")
    assert (answer.status_code, answer.json()["error"]["code"]) == (424, "adapter_refused")
    assert "rank 9 is too much" in answer.json()["error"]["message"]


async def test_a_request_waits_for_an_adapter_that_a_replica_is_still_loading(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.handler.gate.clear()
    adapters.publish("a")
    asking = asyncio.create_task(ask(found, "m:a"))
    while len(found.transport.asked) < 2:
        await asyncio.sleep(0.005)
    adapters.handler.gate.set()
    assert (await asking).status_code == 200


async def test_a_request_waits_no_longer_than_for_a_replica(tmp_path: Path) -> None:
    async with gateway(tmp_path, timeouts={"replica_wait": 0.1}) as (found, adapters):
        adapters.handler.gate.clear()
        adapters.publish("a")
        answer = await ask(found, "m:a")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_loading")
        assert answer.headers["retry-after"] == "1"
        adapters.handler.gate.set()


async def test_models_are_listed_with_their_adapters(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.handler.failures["bad"] = refusal("rank 9 is too much")
    version = adapters.publish("a").partition("@")[2]
    adapters.publish("bad")
    await adapters.until(lambda: adapters.states() == {"a": "ready", "bad": "refused"})
    found.members._asked.clear()
    async with found.client() as client:
        listed = {one["id"]: one for one in (await client.get("/v1/models")).json()["data"]}
        assert set(listed) == {"m", "m:a", "plain", "auto"}
        assert (listed["m:a"]["parent"], listed["m:a"]["root"], listed["m:a"]["version"]) == ("m", "m", version)
        assert [(one["name"], one["state"], one["reason"]) for one in listed["m"]["adapters"]] == [
            ("a", "ready", ""),
            ("bad", "refused", "rank 9 is too much"),
        ]
        assert listed["plain"]["adapters"] == []
        assert (await client.get("/v1/models/m:a")).json() == listed["m:a"]
        missing = await client.get("/v1/models/m:bad")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "adapter_not_found")


async def test_the_list_asks_a_model_again_only_when_what_it_said_is_old(served: tuple[Group, Kept]) -> None:
    found, _ = served
    async with found.client() as client:
        await client.get("/v1/models")
        answers = len(found.transport.answers)
        await client.get("/v1/models")
        assert len(found.transport.answers) == answers
        found.members._asked.clear()
        await client.get("/v1/models")
        assert len(found.transport.answers) == answers + 2


async def test_a_stored_answer_is_kept_in_the_adapters_name(served: tuple[Group, Kept]) -> None:
    found, adapters = served
    adapters.publish("a")
    await adapters.until(lambda: adapters.states() == {"a": "ready"})
    answer = (await ask(found, "m:a", store=True)).json()
    async with found.client() as client:
        stored = (await client.get(f"/v1/conversations/{answer['id']}")).json()
    assert stored["model"] == "m:a"
