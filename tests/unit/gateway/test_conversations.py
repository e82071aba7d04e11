"""Stored conversations and feedback over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve.gateway.transport.base import ReplicaLost
from serve.protocol.events import Delta, Event, TokenLogprob, ToolCallDelta, TopLogprob, Usage
from tests.unit.gateway.group import CHAT, Group, group
from tests.unit.protocol.events import frames
from tests.unit.replica.models import HELLO, Scripted, replica

LIST = "/v1/conversations"
HALF = TokenLogprob("\ufffd", -0.5, b"\xe4", (TopLogprob("a", -1.0, b"a"),))
ANSWER: list[list[Event]] = [
    [Delta(reasoning="hm"), Delta(1, "second 👩")],
    [Delta(text="first", logprobs=(HALF,))],
    [Delta(tool_calls=(ToolCallDelta(0, "call_1", "f", '{"a":'),))],
    [
        Delta(tool_calls=(ToolCallDelta(0, arguments="1}"),), finish_reason="tool_calls"),
        Delta(1, finish_reason="stop"),
    ],
    [Usage(9, 5, 4)],
]


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with one model."""
    async with group(tmp_path, Scripted(*ANSWER)) as found:
        yield found


async def chat(group: Group, key: str | None = None, **fields: Any) -> httpx.Response:
    """A chat that is to be stored."""
    async with group.client(**({"authorization": f"Bearer {key}"} if key else {})) as client:
        return await client.post(CHAT, json=HELLO | {"n": 2, "store": True} | fields)


async def call(
    group: Group, method: str, path: str = "", key: str | None = None, json: object = None
) -> httpx.Response:
    """Ask about conversations."""
    async with group.client(**({"authorization": f"Bearer {key}"} if key else {})) as client:
        return await client.request(method, f"{LIST}{path}", json=json)


async def stored(group: Group) -> list[Any]:
    """Every conversation of the person at this machine."""
    found: list[Any] = (await call(group, "GET", "?limit=100&order=asc")).json()["data"]
    return found


async def key(group: Group, *scopes: str) -> str:
    """The secret of a new key."""
    return (await group.store.keys.create("test", scopes or ["inference", "conversations"], None, None)).secret


async def test_nothing_is_kept_that_was_not_asked_for(one: Group) -> None:
    for store in (False, None):
        await chat(one, store=store)
        await chat(one, store=store, stream=True)
    async with one.client() as client:
        await client.post(CHAT, json=HELLO)
        await client.post("/v1/completions", json={"model": "m", "prompt": "a"})
        await client.post("/v1/embeddings", json={"model": "m", "input": "a"})
    assert await stored(one) == []


async def test_what_was_asked_and_answered_is_kept_as_it_was(one: Group) -> None:
    asked: dict[str, Any] = {
        "n": 2,
        "temperature": 1e-05,
        "messages": [{"role": "user", "content": "你好 \u2028"}],
        "user": "me",
    }
    before = int(time.time())
    answer = (await chat(one, **asked, metadata={"topic": "tea"})).json()
    (kept,) = await stored(one)
    assert kept["request"] == {"model": "m"} | asked
    assert list(kept["request"]) == ["model", "messages", "n", "temperature", "user"]
    assert (kept["id"], kept["model"]) == (answer["id"], "m")
    assert before <= kept["created"] <= answer["created"]
    assert (kept["choices"], kept["usage"]) == (answer["choices"], answer["usage"])
    assert (kept["metadata"], kept["route"], kept["object"]) == ({"topic": "tea"}, "named", "conversation")


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_a_stream_is_kept_like_the_answer_without_one(one: Group, options: dict[str, Any]) -> None:
    streamed = await chat(one, stream=True, **options)
    await chat(one)
    first, second = await stored(one)
    assert first["id"] == frames(streamed.content)[0]["id"]
    assert first["choices"] == second["choices"]
    assert first["usage"] == second["usage"]
    assert {name: value for name, value in first["request"].items() if "stream" not in name} == second["request"]


async def test_the_model_and_the_reason_of_an_automatic_choice_are_kept(one: Group) -> None:
    await chat(one, model="auto")
    (kept,) = await stored(one)
    assert (kept["model"], kept["route"], kept["request"]["model"]) == ("m", "any", "auto")


async def test_a_stream_that_breaks_off_is_not_kept(one: Group) -> None:
    one.transport.apps["m"] = replica(Scripted([Delta(text="half")], asyncio.Event())).asgi
    one.transport.cuts = [1]
    assert frames((await chat(one, stream=True)).content)[-1]["error"]["code"] == "model_lost"
    assert await stored(one) == []


async def test_an_answer_that_had_to_be_asked_for_twice_is_kept_once(one: Group) -> None:
    one.transport.failures = [ReplicaLost("killed", begun=False)]
    await chat(one)
    assert len(await stored(one)) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_cannot_be_kept_is_an_error_and_not_an_answer(one: Group, stream: bool) -> None:
    await one.store.close()
    answer = await chat(one, stream=stream)
    error = frames(answer.content)[-1]["error"] if stream else answer.json()["error"]
    assert error["code"] == "internal_error"
    assert b"[DONE]" not in answer.content
    await one.store.open()


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"a": "b" * 513}, "metadata.a"),
        ({"": "a"}, "metadata"),
        ({"k" * 65: "a"}, "metadata"),
        ({str(i): "" for i in range(17)}, "metadata"),
        ({"a": 5}, "metadata.a"),
        ("text", "metadata"),
    ],
)
async def test_metadata_beyond_the_bounds_is_refused_before_anything_is_generated(
    one: Group, metadata: object, param: str
) -> None:
    handler = Scripted(*ANSWER)
    one.transport.apps["m"] = replica(handler).asgi
    answer = await chat(one, metadata=metadata)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)
    assert handler.asked == [] and await stored(one) == []


async def test_a_request_nested_too_deeply_to_be_kept_is_refused_before_anything_is_generated(one: Group) -> None:
    deep: Any = {}
    for _ in range(210):
        deep = {"properties": deep}
    tools = [{"type": "function", "function": {"name": "f", "parameters": deep}}]
    answer = await chat(one, tools=tools)
    assert answer.status_code == 400
    assert "nested deeper" in answer.json()["error"]["message"]
    assert not one.transport.asked
    assert (await chat(one, tools=tools, store=False)).status_code == 200


async def test_one_conversation_is_read_with_its_feedback(one: Group) -> None:
    id = (await chat(one)).json()["id"]
    async with one.client() as client:
        added = await client.post("/v1/feedback", json={"conversation_id": id, "choice": 1, "rating": "up"})
    body = (await call(one, "GET", f"/{id}")).json()
    assert body["feedback"] == [added.json()]
    assert added.json() | {"id": "", "created": 0} == {
        "id": "",
        "created": 0,
        "object": "feedback",
        "conversation_id": id,
        "choice": 1,
        "rating": "up",
        "correction": None,
        "comment": None,
    }


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({}, 400, "rating"),
        ({"rating": "great"}, 400, "rating"),
        ({"rating": "up", "choice": -1}, 400, "choice"),
        ({"rating": "up", "choice": 7}, 400, "choice"),
        ({"rating": "up", "stars": 5}, 400, "stars"),
        ({"correction": ""}, 400, "correction"),
        ({"rating": "up", "conversation_id": "chatcmpl-none"}, 404, "conversation_id"),
        ({"rating": "up", "conversation_id": ""}, 400, "conversation_id"),
    ],
)
async def test_feedback_with_a_fault_is_refused_by_name(
    one: Group, fields: dict[str, Any], status: int, param: str
) -> None:
    id = (await chat(one)).json()["id"]
    async with one.client() as client:
        answer = await client.post("/v1/feedback", json={"conversation_id": id} | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_metadata_is_replaced_whole(one: Group) -> None:
    id = (await chat(one, metadata={"a": "1", "b": "2"})).json()["id"]
    answer = await call(one, "POST", f"/{id}", json={"metadata": {"c": "3"}})
    assert answer.json()["metadata"] == {"c": "3"}
    assert (await call(one, "GET", f"/{id}")).json()["metadata"] == {"c": "3"}


async def test_metadata_beyond_the_bounds_does_not_replace(one: Group) -> None:
    id = (await chat(one, metadata={"a": "1"})).json()["id"]
    answer = await call(one, "POST", f"/{id}", json={"metadata": {"a": "b" * 513}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata.a")
    assert (await call(one, "GET", f"/{id}")).json()["metadata"] == {"a": "1"}


async def test_a_conversation_is_deleted_with_its_feedback(one: Group) -> None:
    id = (await chat(one)).json()["id"]
    answer = await call(one, "DELETE", f"/{id}")
    assert answer.json() == {"id": id, "object": "conversation.deleted", "deleted": True}
    for method in ("GET", "DELETE"):
        assert (await call(one, method, f"/{id}")).status_code == 404
    assert await stored(one) == []


async def test_conversations_are_listed_in_pages_in_the_order_in_which_they_were_asked(one: Group) -> None:
    ids = [(await chat(one)).json()["id"] for _ in range(5)]
    first = (await call(one, "GET", "?limit=2&order=asc")).json()
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [entry["id"] for entry in first["data"]] == ids[:2]
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    second = (await call(one, "GET", f"?limit=3&order=asc&after={first['last_id']}")).json()
    assert [entry["id"] for entry in second["data"]] == ids[2:]
    assert not second["has_more"]
    newest = (await call(one, "GET", "")).json()
    assert [entry["id"] for entry in newest["data"]] == ids[::-1]


async def test_an_empty_list_has_no_ends(one: Group) -> None:
    assert (await call(one, "GET")).json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


async def test_a_list_is_filtered_by_model_and_metadata(one: Group) -> None:
    await chat(one, metadata={"topic": "tea & co", "day": "1"})
    await chat(one, metadata={"topic": "tea & co", "day": "2"})
    for query, count in (
        ("?metadata[topic]=tea%20%26%20co", 2),
        ("?metadata[topic]=tea+%26+co&metadata[day]=2", 1),
        ("?metadata[topic]=coffee", 0),
        ("?metadata[none]=", 0),
        ("?model=m", 2),
        ("?model=other", 0),
    ):
        assert len((await call(one, "GET", query)).json()["data"]) == count


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("?limit=0", 400, "limit"),
        ("?limit=101", 400, "limit"),
        ("?limit=-1", 400, "limit"),
        ("?limit=ten", 400, "limit"),
        ("?limit=", 400, "limit"),
        ("?limit=%D9%A3", 400, "limit"),
        (f"?limit={'9' * 5000}", 400, "limit"),
        ("?order=up", 400, "order"),
        ("?after=chatcmpl-none", 404, "after"),
        ("?page=2", 400, "page"),
    ],
)
async def test_a_query_with_a_fault_is_refused_by_name(one: Group, query: str, status: int, param: str) -> None:
    answer = await call(one, "GET", query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_a_caller_sees_and_changes_its_own_conversations_only(one: Group) -> None:
    mine, others = await key(one), await key(one)
    id = (await chat(one, mine)).json()["id"]
    assert [entry["id"] for entry in (await call(one, "GET", key=mine)).json()["data"]] == [id]
    for secret in (others, None):
        assert (await call(one, "GET", key=secret)).json()["data"] == []
        assert (await call(one, "GET", f"/{id}", secret)).status_code == 404
        assert (await call(one, "POST", f"/{id}", secret, {"metadata": {}})).status_code == 404
        assert (await call(one, "DELETE", f"/{id}", secret)).status_code == 404
        assert (await call(one, "GET", f"?after={id}", secret)).status_code == 404
        async with one.client(**({"authorization": f"Bearer {secret}"} if secret else {})) as client:
            added = await client.post("/v1/feedback", json={"conversation_id": id, "rating": "down"})
        assert added.status_code == 404
    assert (await call(one, "GET", f"/{id}", mine)).json()["feedback"] == []


async def test_a_conversation_that_is_not_there_looks_like_one_of_somebody_else(one: Group) -> None:
    id = (await chat(one, await key(one))).json()["id"]
    theirs, nobodys = await call(one, "GET", f"/{id}"), await call(one, "GET", "/chatcmpl-none")
    assert theirs.json()["error"]["message"].replace(id, "chatcmpl-none") == nobodys.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"metadata": {"a": 1}}', b"x" * (1024 * 1024 + 1)])
async def test_a_body_with_a_fault_is_refused(one: Group, body: bytes) -> None:
    id = (await chat(one)).json()["id"]
    async with one.client() as client:
        answer = await client.post(f"{LIST}/{id}", content=body)
    assert answer.status_code in (400, 413)
