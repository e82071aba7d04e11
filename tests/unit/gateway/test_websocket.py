"""Many chats at once on one socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Scope
from websockets.asyncio.client import ClientConnection

from serve.errors import QueueFull
from serve.protocol.events import Delta, Event, Usage
from tests.unit.gateway.group import group, settled
from tests.unit.gateway.lines import Lines, lines
from tests.unit.gateway.sockets import Json, chat, hear, say, socket, text, until_end
from tests.unit.replica.models import HELLO, Scripted, echo, replica

__all__ = ["lines"]

END: list[Event] = [Delta(finish_reason="stop"), Usage(3, 2, 1)]


async def test_a_chat_is_answered_in_chunks_with_the_usage_last_and_then_done(tmp_path: Path) -> None:
    async with group(tmp_path, Scripted([Delta(text="Hi 👩")], END)) as found, socket(found) as client:
        await chat(client, "a")
        *chunks, last = await until_end(client, "a")
        assert last == {"type": "done", "id": "a"}
        assert {chunk["type"] for chunk in chunks} == {"chunk"}
        assert text(chunks, "a") == "Hi 👩"
        assert chunks[0]["data"]["object"] == "chat.completion.chunk"
        assert chunks[-1]["data"]["choices"] == [] and chunks[-1]["data"]["usage"]["total_tokens"] == 5


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream_options": {"include_usage": False}}])
async def test_the_body_of_any_chat_completion_will_do(tmp_path: Path, fields: Json) -> None:
    async with group(tmp_path, echo(tokens=2)) as found, socket(found) as client:
        await chat(client, "a", **fields)
        messages = await until_end(client, "a")
        assert text(messages, "a") == " token0 token1"
        assert messages[-2]["data"]["usage"]["total_tokens"] == 3


async def test_a_chat_goes_on_while_another_waits(tmp_path: Path) -> None:
    later = asyncio.Event()
    slow = Scripted([Delta(text="slow")], later, END, id="slow")
    async with group(tmp_path, slow, echo("quick", tokens=2)) as found, socket(found) as client:
        await chat(client, "a", model="slow")
        await chat(client, "b", model="quick")
        messages = await until_end(client, "b")
        assert text(messages, "b") == " token0 token1"
        later.set()
        messages += await until_end(client, "a")
        assert text(messages, "a") == "slow"


async def test_many_chats_at_once_are_kept_apart(tmp_path: Path) -> None:
    async with group(tmp_path, echo(tokens=20, token_ms=1)) as found, socket(found) as client:
        ids = [f"chat {number} 👩" for number in range(8)]
        for id in ids:
            await chat(client, id)
        messages: list[Json] = []
        for _ in ids:
            while (await _next(client, messages))["type"] != "done":
                pass
        assert {message["id"] for message in messages} == set(ids)
        assert len({text(messages, id) for id in ids}) == 1
        completions = {message["id"]: message["data"]["id"] for message in messages if message["type"] == "chunk"}
        assert len(set(completions.values())) == 8


async def _next(client: ClientConnection, messages: list[Json]) -> Json:
    messages.append(await hear(client))
    return messages[-1]


async def test_a_chat_that_is_cancelled_says_so_once_and_its_model_stops(tmp_path: Path) -> None:
    handler = echo(tokens=10**9, token_ms=1)
    async with group(tmp_path, handler) as found, socket(found) as client:
        await chat(client, "a")
        assert (await hear(client))["type"] == "chunk"
        await say(client, type="cancel", id="a")
        assert (await until_end(client, "a"))[-1] == {"type": "cancelled", "id": "a"}
        await settled(lambda: handler.load_now().active == 0)
        await say(client, type="cancel", id="a")
        assert (await hear(client))["error"]["param"] == "id"


async def test_a_chat_cancelled_in_the_same_breath_says_so_and_gives_its_place_back(tmp_path: Path) -> None:
    async with group(tmp_path, echo(tokens=2), limits={"websocket_requests": 1}) as found, socket(found) as client:
        for id in ("a", "b", "a"):
            begin = json.dumps({"type": "chat", "id": id, "request": HELLO})
            # Both in one write, so that the gateway finds the second when it has taken the first.
            client.transport.writelines([_frame(begin), _frame(json.dumps({"type": "cancel", "id": id}))])
            assert (await until_end(client, id))[-1]["type"] == "cancelled"


def _frame(message: str) -> bytes:
    """A client's text frame, masked with zeros."""
    data = message.encode()
    assert 125 < len(data) < 65536 or len(data) <= 125
    length = bytes([0x80 | len(data)]) if len(data) <= 125 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
    return b"\x81" + length + b"\x00" * 4 + data


async def test_other_chats_go_on_when_one_is_cancelled(tmp_path: Path) -> None:
    async with group(tmp_path, echo(tokens=30, token_ms=1)) as found, socket(found) as client:
        await chat(client, "a")
        await chat(client, "b")
        await say(client, type="cancel", id="a")
        messages = await until_end(client, "b")
        assert messages[-1]["type"] == "done"
        assert text(messages, "b").endswith(" token29")


async def test_a_client_that_leaves_stops_everything_that_runs(tmp_path: Path, lines: Lines) -> None:
    handler = echo(tokens=10**9, token_ms=1)
    async with group(tmp_path, handler) as found, socket(found) as client:
        for id in "abc":
            await chat(client, id)
        await settled(lambda: handler.load_now().active == 3)
        client.transport.abort()
        await settled(lambda: handler.load_now().active == 0)
    assert not [line for line in lines.all() if line["level"] == "ERROR"]


async def test_a_client_that_has_gone_before_the_gateway_knows_is_no_error(tmp_path: Path, lines: Lines) -> None:
    tried = asyncio.Event()
    begin = {"type": "chat", "id": "a", "request": HELLO}
    messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": json.dumps(begin)}]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await tried.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            tried.set()
            raise OSError("the client has gone")

    headers = [(b"host", b"localhost")]
    scope: Scope = {"type": "websocket", "path": "/v1/chat/stream", "headers": headers, "client": ("127.0.0.1", 5)}
    async with group(tmp_path, echo(tokens=5)) as found:
        await found.app(scope, receive, send)
    assert not [line for line in lines.all() if line["level"] == "ERROR"]


@pytest.mark.parametrize(
    ("message", "id", "param"),
    [
        ({"type": "shout", "id": "a"}, "a", "type"),
        ({"id": "a"}, "a", "type"),
        ({"type": "chat"}, None, "id"),
        ({"type": "chat", "id": ""}, None, "id"),
        ({"type": "chat", "id": 5}, None, "id"),
        ({"type": "chat", "id": "x" * 129}, None, "id"),
        ({"type": "chat", "id": "a"}, "a", "request"),
        ({"type": "chat", "id": "a", "request": "hello"}, "a", "request"),
        ({"type": "cancel", "id": "a"}, "a", "id"),
        ({"type": "chat", "id": "a", "request": {}}, "a", "model"),
    ],
)
async def test_a_message_with_a_fault_is_answered_by_name(
    tmp_path: Path, message: Json, id: str | None, param: str
) -> None:
    async with group(tmp_path, echo(tokens=2)) as found, socket(found) as client:
        await say(client, **message)
        answer = await hear(client)
        assert (answer["type"], answer["id"], answer["error"]["param"]) == ("error", id, param)
        await chat(client, "a")
        assert (await until_end(client, "a"))[-1]["type"] == "done"


@pytest.mark.parametrize("message", ["", "{", "[]", "5", '{"a": NaN}', b"\xff", "[" * 100_000, "x" * 2000])
async def test_a_message_that_cannot_be_read_is_answered_and_the_socket_stays_open(
    tmp_path: Path, message: str | bytes
) -> None:
    async with group(tmp_path, echo(tokens=2), limits={"body_bytes": 1024}) as found, socket(found) as client:
        await client.send(message)
        answer = await hear(client)
        assert (answer["type"], answer["id"]) == ("error", None)
        assert answer["error"]["type"] == "invalid_request_error"
        await client.send(json.dumps({"type": "chat", "id": "a", "request": HELLO}).encode())
        assert (await until_end(client, "a"))[-1]["type"] == "done"


async def test_a_request_nested_too_deeply_is_answered_and_the_others_go_on(tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"properties": deep}
    async with group(tmp_path, echo(tokens=50, token_ms=1)) as found, socket(found) as client:
        await chat(client, "a")
        await chat(client, "b", tools=[{"function": {"name": "f", "parameters": deep}}])
        messages = await until_end(client, "a")
        (error,) = [message for message in messages if message["id"] == "b"]
        assert (error["type"], error["error"]["param"]) == ("error", "request")
        assert messages[-1]["type"] == "done"


async def test_an_id_is_used_once_at_a_time(tmp_path: Path) -> None:
    later = asyncio.Event()
    async with group(tmp_path, Scripted([Delta(text="x")], later, END)) as found, socket(found) as client:
        await chat(client, "a")
        await hear(client)
        await chat(client, "a")
        error = (await until_end(client, "a"))[-1]
        assert (error["type"], error["error"]["param"]) == ("error", "id")
        later.set()
        assert (await until_end(client, "a"))[-1]["type"] == "done"
        await chat(client, "a")
        assert (await until_end(client, "a"))[-1]["type"] == "done"


async def test_a_socket_runs_so_many_chats_at_once_and_no_more(tmp_path: Path) -> None:
    later = asyncio.Event()
    one = Scripted(later, END)
    async with group(tmp_path, one, limits={"websocket_requests": 2}) as found, socket(found) as client:
        for id in "abc":
            await chat(client, id)
        error = await hear(client)
        assert (error["type"], error["id"], error["error"]["type"]) == ("error", "c", "rate_limit_error")
        later.set()
        for _ in range(2):
            while (await hear(client))["type"] != "done":
                pass
        await chat(client, "c")
        assert (await until_end(client, "c"))[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("steps", "fields", "code"),
    [
        ([], {"model": "none"}, "model_not_found"),
        ([], {"temperature": 9}, "invalid_value"),
        ([QueueFull("m")], {}, "queue_full"),
        ([ValueError("inner details")], {}, "internal_error"),
        ([[Delta(text="half")], QueueFull("m")], {}, "queue_full"),
        ([[Delta(text="half")], ValueError("inner details")], {}, "internal_error"),
    ],
)
async def test_a_chat_that_fails_ends_with_its_error_and_nothing_after_it(
    tmp_path: Path, steps: list[Any], fields: Json, code: str
) -> None:
    async with group(tmp_path, Scripted(*steps)) as found, socket(found) as client:
        await chat(client, "a", **fields)
        *_, last = await until_end(client, "a")
        assert (last["type"], last["error"]["code"]) == ("error", code)
        assert "inner" not in json.dumps(last)
        found.transport.apps["m"] = replica(echo(tokens=2)).asgi
        await chat(client, "b")
        assert {message["id"] for message in await until_end(client, "b")} == {"b"}


async def test_a_model_lost_half_way_ends_its_chat_only(tmp_path: Path) -> None:
    async with group(tmp_path, Scripted([Delta(text="half")], asyncio.Event())) as found, socket(found) as client:
        found.transport.cuts = [1]
        await chat(client, "a")
        *_, last = await until_end(client, "a")
        assert (last["type"], last["error"]["code"]) == ("error", "model_lost")


async def test_a_chat_that_asks_for_it_is_stored_as_over_http(tmp_path: Path) -> None:
    async with group(tmp_path, echo(tokens=2)) as found, socket(found) as client:
        await chat(client, "a", store=True, metadata={"topic": "tea"})
        messages = await until_end(client, "a")
        (kept,) = (await found.store.conversations.list("local")).items
        assert kept.id == messages[0]["data"]["id"]
        assert (kept.choices[0]["message"]["content"], kept.metadata) == (" token0 token1", {"topic": "tea"})


async def test_a_socket_is_one_line_of_the_access_log_and_none_holds_what_was_said(
    tmp_path: Path, lines: Lines
) -> None:
    private = "my private words"
    async with group(tmp_path, Scripted([Delta(text=private)], ValueError("inner"))) as found:
        async with socket(found) as client:
            await chat(client, "a", messages=[{"role": "user", "content": private}])
            await until_end(client, "a")
            await chat(client, "b", messages=[{"role": private}])
            await until_end(client, "b")
            await client.send(private)
            await hear(client)
        (line,) = lines.all("serve.access")
    assert (line["method"], line["path"], line["status"]) == ("WEBSOCKET", "/v1/chat/stream", 101)
    assert "model" not in line, "each chat has a state of its own"
    assert private not in lines.text
    assert found.metrics.body()["responses"] == {"1xx": 1}
