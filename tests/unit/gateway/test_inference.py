"""Inference requests from the client to a model and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve.errors import QueueFull
from serve.gateway.transport.base import ReplicaLost
from serve.protocol.events import Delta, Event, Usage
from serve.replica.asgi import TOKEN_HEADER
from tests.unit.gateway.group import CHAT, Group, group, listening, running, settled
from tests.unit.protocol.events import ends_well, frames
from tests.unit.replica.models import HELLO, TOKEN, Scripted, echo, replica

LOST = ReplicaLost("killed", begun=False)


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with a model that chats and one that embeds too."""
    done: list[Event] = [Delta(text="Hi"), Delta(finish_reason="stop"), Usage(3, 2, 1)]
    async with group(tmp_path, echo("tiny", tokens=3), Scripted(done, id="able", tools=True)) as found:
        yield found


async def post(group: Group, path: str = CHAT, **fields: Any) -> httpx.Response:
    """Ask the gateway."""
    async with group.client() as client:
        return await client.post(path, json=HELLO | {"model": "tiny"} | fields)


async def test_a_chat_is_answered_by_the_model_that_was_named(two: Group) -> None:
    answer = await post(two)
    assert answer.json()["choices"][0]["message"]["content"] == " token0 token1 token2"
    assert (answer.headers["x-groupqwen-model"], answer.headers["x-groupqwen-route"]) == ("tiny", "named")


async def test_a_stream_passes_through_as_the_model_wrote_it(two: Group) -> None:
    answer = await post(two, stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in frames(answer.content)]
    assert texts == ["", " token0", " token1", " token2", None]
    assert ends_well(answer.content)


async def test_completions_and_embeddings_go_their_own_way(two: Group) -> None:
    async with two.client() as client:
        completion = await client.post("/v1/completions", json={"model": "able", "prompt": "a"})
        vectors = await client.post("/v1/embeddings", json={"model": "able", "input": "a"})
    assert completion.json()["choices"][0]["text"] == "Hi"
    assert vectors.json()["data"][0]["embedding"] == [0.5, -0.5]
    assert [path for _, path, _ in two.transport.asked] == ["/v1/completions", "/v1/embeddings"]


async def test_the_model_sees_the_internal_token_and_the_requests_id_and_not_the_clients_key(two: Group) -> None:
    async with two.client(authorization="Bearer sk-mine") as client:
        await client.post(CHAT, json=HELLO | {"model": "tiny"}, headers={"x-request-id": "r1"})
    ((_, _, headers),) = two.transport.asked
    assert dict(headers) == {
        TOKEN_HEADER: TOKEN.encode(),
        b"content-type": b"application/json",
        b"x-request-id": b"r1",
    }


async def test_a_model_that_does_not_exist_is_told_with_those_that_do(two: Group) -> None:
    answer = await post(two, model="huge")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "able, tiny" in error["message"]


@pytest.mark.parametrize("model", [None, "", 5, ["tiny"]])
async def test_a_model_must_be_named(two: Group, model: object) -> None:
    answer = await post(two, model=model)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_a_model_that_was_left_out_is_a_missing_parameter(two: Group) -> None:
    async with two.client() as client:
        answer = await client.post(CHAT, json={"messages": []})
    assert answer.json()["error"]["code"] == "missing_parameter"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(two: Group, body: bytes) -> None:
    async with two.client() as client:
        answer = await client.post(CHAT, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert not two.transport.asked


async def test_a_fault_that_the_model_finds_reaches_the_client_with_its_status(two: Group) -> None:
    for stream in (False, True):
        answer = await post(two, stream=stream, messages=[{"role": "robot", "content": "a"}])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].role")
        assert answer.headers["x-groupqwen-model"] == "tiny"


async def test_what_a_model_cannot_do_is_refused_at_the_gateway(two: Group) -> None:
    answer = await post(two, "/v1/embeddings", input="a")
    assert answer.status_code == 400
    assert "'tiny' does not serve /v1/embeddings" in answer.json()["error"]["message"]
    assert not two.transport.asked


@pytest.mark.parametrize(
    ("fields", "model", "reason"),
    [
        ({}, "tiny", "default"),
        ({"messages": [{"role": "user", "content": "Write a Python program"}]}, "able", "rule=code"),
        ({"tools": [{"function": {"name": "f"}}]}, "able", "any"),
    ],
)
async def test_auto_chooses_a_model_and_says_why(two: Group, fields: Any, model: str, reason: str) -> None:
    rules = [{"name": "code", "when": {"code": True}, "models": ["able"]}]
    two.configure(routing={"rules": rules, "default": ["tiny"]})
    answer = await post(two, **{"model": "auto"} | fields)
    assert answer.status_code == 200
    assert (answer.headers["x-groupqwen-model"], answer.headers["x-groupqwen-route"]) == (model, reason)
    assert answer.json()["model"] == model


async def test_auto_with_no_model_that_can_answer_says_when_to_try_again(two: Group) -> None:
    two.configure(timeouts={"replica_wait": 0.2})
    await two.refresh(tiny=running("tiny", replicas=0), able=running("able", replicas=0))
    answer = await post(two, model="auto")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_refused_whether_or_not_its_length_is_declared(
    two: Group, declared: bool
) -> None:
    two.configure(limits={"body_bytes": 1024})

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async with two.client() as client:
        answer = await client.post(CHAT, content=b"x" * 10_000 if declared else pieces())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
    assert "1024" in answer.json()["error"]["message"]


async def test_a_conversation_of_too_many_messages_is_refused(two: Group) -> None:
    two.configure(limits={"message_count": 2})
    message = {"role": "user", "content": "a"}
    assert (await post(two, messages=[message] * 2)).status_code == 200
    answer = await post(two, messages=[message] * 3)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_replica_lost_before_its_first_byte_is_not_noticed(two: Group, stream: bool) -> None:
    two.transport.failures = [LOST, LOST]
    answer = await post(two, stream=stream)
    assert answer.status_code == 200
    assert len(two.transport.asked) == 3


async def test_an_answer_without_a_stream_that_breaks_off_is_asked_for_again(two: Group) -> None:
    two.transport.cuts = [0]
    answer = await post(two)
    assert answer.json()["choices"][0]["message"]["content"] == " token0 token1 token2"
    assert len(two.transport.asked) == 2


async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_not_begun_again(two: Group) -> None:
    two.transport.apps["tiny"] = replica(Scripted([Delta(text="half")], asyncio.Event())).asgi
    two.transport.cuts = [1]
    answer = await post(two, stream=True)
    assert answer.status_code == 200
    *chunks, last = frames(answer.content)
    assert chunks[-1]["choices"][0]["delta"] == {"content": "half"}
    assert last["error"]["code"] == "model_lost"
    assert b"[DONE]" not in answer.content
    assert len(two.transport.asked) == 1


async def test_every_answer_is_closed_however_it_ended(two: Group) -> None:
    await post(two)
    await post(two, stream=True)
    await post(two, temperature=9)
    two.transport.cuts = [0]
    await post(two)
    two.transport.cuts = [0]
    await post(two, stream=True)
    assert len(two.transport.answers) == 2 + 6
    assert all(answer.closed for answer in two.transport.answers)


async def test_a_model_that_stays_away_is_told_with_when_to_try_again(two: Group) -> None:
    two.configure(timeouts={"replica_wait": 0})
    two.transport.failures = [LOST]
    answer = await post(two)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_starting")
    assert answer.headers["retry-after"] == "2"


async def test_a_model_on_its_first_start_is_not_waited_for(two: Group) -> None:
    await two.refresh(new=running("new", status="DEPLOYING", replicas=0))
    answer = await post(two, model="new")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_starting")
    assert answer.headers["retry-after"] == "2"


async def test_a_model_that_was_lost_is_waited_for(two: Group) -> None:
    await two.refresh(tiny=running("tiny", status="UNHEALTHY", replicas=0))
    asking = asyncio.create_task(post(two))
    await asyncio.sleep(0.02)
    assert not asking.done()
    await two.refresh(tiny=running("tiny"))
    assert (await asking).status_code == 200


async def test_a_model_that_could_not_be_started_says_so(two: Group) -> None:
    await two.refresh(bad=running("bad", status="DEPLOY_FAILED", replicas=0))
    answer = await post(two, model="bad")
    assert answer.status_code == 503
    assert "could not be started" in answer.json()["error"]["message"]


async def test_a_full_queue_is_told_with_when_to_try_again(two: Group) -> None:
    two.transport.failures = [QueueFull("tiny", retry_after=3)]
    answer = await post(two)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert answer.headers["retry-after"] == "3"
    assert len(two.transport.asked) == 1


async def test_a_model_whose_slots_are_taken_says_so_itself(tmp_path: Path) -> None:
    handler = echo("tiny", slots=1, token_ms=5, tokens=10**9)
    async with group(tmp_path, handler) as found, listening(found.app) as address, httpx.AsyncClient() as client:
        body = HELLO | {"model": "tiny", "stream": True}
        async with client.stream("POST", f"http://{address}{CHAT}", json=body):
            answer = await client.post(f"http://{address}{CHAT}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_model(tmp_path: Path, stream: bool) -> None:
    handler = echo("tiny", token_ms=5, tokens=10**9)
    async with group(tmp_path, handler) as found, listening(found.app) as address, httpx.AsyncClient() as client:
        asking = asyncio.create_task(
            client.post(f"http://{address}{CHAT}", json=HELLO | {"model": "tiny", "stream": stream})
        )
        await settled(lambda: handler.load_now().active == 1)
        asking.cancel()
        await settled(lambda: handler.load_now().active == 0)


async def test_an_answer_counts_for_its_model(two: Group) -> None:
    await post(two)
    await post(two, stream=True)
    await post(two, model="able")
    async with two.client() as client:
        body = (await client.get("/v1/metrics")).json()
    assert body["models"] == {
        "able": {"requests": 1, "prompt_tokens": 3, "completion_tokens": 2},
        "tiny": {"requests": 2, "prompt_tokens": 2, "completion_tokens": 6},
    }
    assert body["responses"] == {"2xx": 3}


async def test_a_model_may_leave_and_another_join_while_the_gateway_runs(two: Group) -> None:
    await two.refresh(able=None)
    assert (await post(two, model="able")).status_code == 404
    await two.refresh(able=running("able"))
    assert (await post(two, model="able")).status_code == 200


async def test_a_model_that_is_being_deleted_is_gone(two: Group) -> None:
    await two.refresh(able=running("able", status="DELETING"))
    answer = await post(two, model="able")
    assert answer.status_code == 404
    assert "able" not in answer.json()["error"]["message"].partition("Models of this group")[2]


async def test_a_limit_that_changes_live_holds_for_the_next_request(two: Group) -> None:
    assert (await post(two)).status_code == 200
    two.configure(limits={"message_count": 1})
    assert (await post(two, messages=[{"role": "user", "content": "a"}] * 2)).status_code == 400


async def test_tokens_arrive_one_by_one_over_a_real_connection(tmp_path: Path) -> None:
    later = asyncio.Event()
    handler = Scripted([Delta(text="first")], later, [Delta(finish_reason="stop"), Usage(1, 1)], id="tiny")
    async with group(tmp_path, handler) as found, listening(found.app) as address, httpx.AsyncClient() as client:
        body = HELLO | {"model": "tiny", "stream": True}
        async with client.stream("POST", f"http://{address}{CHAT}", json=body) as answer:
            chunks = answer.aiter_bytes()
            assert frames(await anext(chunks))[-1]["choices"][0]["delta"] == {"content": "first"}
            later.set()
            assert ends_well(b"".join([chunk async for chunk in chunks]))
    await settled(lambda: handler.active == 0)
