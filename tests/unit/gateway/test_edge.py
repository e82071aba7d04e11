"""The outermost layer: request ids, the access log, metrics, and every error as OpenAI's error object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.types import Message, Receive, Scope, Send

from serve.gateway.edge import Edge
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.transport.base import ReplicaLost
from serve.logs import request_id
from serve.protocol.events import Delta
from tests.unit.gateway.group import CHAT, Group, group
from tests.unit.gateway.lines import Lines, lines
from tests.unit.protocol.events import frames
from tests.unit.replica.models import HELLO, Scripted, echo, replica

__all__ = ["lines"]


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with one model."""
    async with group(tmp_path, echo(tokens=3)) as found:
        yield found


async def ask(group: Group, method: str = "GET", path: str = "/livez", **headers: str) -> httpx.Response:
    """Ask the gateway."""
    async with group.client(**headers) as client:
        return await client.request(method, path, json=HELLO if method == "POST" else None)


def passed_by(app: Any, *, access_log: bool = True) -> Edge:
    """An edge around an app."""
    return Edge(app, GatewayMetrics(), access_log=access_log)


async def run(edge: Edge, kind: str = "http", **fields: Any) -> list[Message]:
    """The messages that an edge sends for one request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await edge({"type": kind, "path": "/", "method": "GET", "headers": [], **fields}, receive, send)
    return sent


async def test_a_request_without_an_id_is_given_one(one: Group, lines: Lines) -> None:
    first, second = await ask(one), await ask(one)
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert [line["request_id"] for line in lines.all("serve.access")] == [
        answer.headers["x-request-id"] for answer in (first, second)
    ]


@pytest.mark.parametrize("id", ["abc", "A-b_c.d:1", "x" * 128])
async def test_an_id_that_the_client_brings_is_kept_in_the_log_and_for_the_model(
    one: Group, lines: Lines, id: str
) -> None:
    await ask(one, "POST", CHAT, **{"x-request-id": id})
    assert lines.all("serve.access")[0]["request_id"] == id
    assert (b"x-request-id", id.encode()) in one.transport.asked[0][2]


@pytest.mark.parametrize("id", ["", "a b", "a\tb", "x" * 129, 'a"b', "ü", "a,b", "{}"])
async def test_an_id_that_could_do_harm_is_replaced(one: Group, lines: Lines, id: str) -> None:
    async with one.client() as client:
        await client.post(CHAT, json=HELLO, headers={b"x-request-id": id.encode()})
    replaced = lines.all("serve.access")[0]["request_id"]
    assert replaced.startswith("req_")
    assert (b"x-request-id", replaced.encode()) in one.transport.asked[0][2]


async def test_an_id_is_not_put_twice_where_serve_puts_the_clients_own(one: Group) -> None:
    assert "x-request-id" not in (await ask(one, **{"x-request-id": "abc"})).headers


async def test_an_error_carries_the_id_too(one: Group) -> None:
    assert (await ask(one, path="/nothing")).headers["x-request-id"].startswith("req_")


async def test_the_id_of_one_request_is_not_that_of_another_at_the_same_time() -> None:
    seen: dict[str, str | None] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        seen[scope["path"]] = request_id.get()

    edge = passed_by(app)
    names = [f"/{number}" for number in range(5)]
    headers = {name: [(b"x-request-id", name[1:].encode())] for name in names}
    await asyncio.gather(*(run(edge, path=name, headers=headers[name]) for name in names))
    assert seen == {name: name[1:] for name in names}
    assert request_id.get() is None


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/models/", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("PUT", "/v1/conversations/chatcmpl-1", 405, "method_not_allowed"),
    ],
)
async def test_an_unknown_address_and_a_wrong_method_are_openai_errors(
    one: Group, method: str, path: str, status: int, code: str
) -> None:
    answer = await ask(one, method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(CHAT, "POST"), ("/v1/models", "GET, HEAD"), ("/v1/conversations/chatcmpl-1", "DELETE, GET, HEAD, POST")],
)
async def test_a_wrong_method_is_told_which_ones_the_address_takes(one: Group, path: str, allowed: str) -> None:
    answer = await ask(one, "PUT", path)
    assert answer.headers["allow"] == allowed
    assert allowed in answer.json()["error"]["message"]


async def test_the_access_log_has_one_line_a_request_with_what_operators_need(one: Group, lines: Lines) -> None:
    key = await one.store.keys.create("test", ["inference"], None, None)
    await ask(one, "POST", CHAT, authorization=f"Bearer {key.secret}")
    (line,) = lines.all("serve.access")
    assert {name: line[name] for name in ("method", "path", "status", "model", "route", "key_id", "level")} == {
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "model": "m",
        "route": "named",
        "key_id": key.key.id,
        "level": "INFO",
    }
    assert line["ms"] >= 0 and line["time"].endswith("+00:00")
    assert key.secret not in lines.text


async def test_the_access_log_can_be_switched_off(tmp_path: Path, lines: Lines) -> None:
    async with group(tmp_path, echo(), access_log=False) as found:
        await ask(found)
    assert lines.all("serve.access") == []


async def test_requests_are_counted_by_the_class_of_their_status(one: Group) -> None:
    for path in ("/livez", "/livez", "/nothing"):
        await ask(one, path=path)
    body = (await ask(one, path="/v1/metrics")).json()
    assert body["responses"] == {"2xx": 2, "4xx": 1}
    assert body["uptime_seconds"] >= 0


async def test_a_fault_of_the_program_is_a_500_with_no_details_and_one_error_line(lines: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("inner details")

    head, body = await run(passed_by(app))
    assert request_id.get() is None, "the next request of this connection is another"
    assert head["status"] == 500
    assert b"internal_error" in body["body"] and b"inner details" not in body["body"]
    error, access = lines.all()
    assert (error["level"], access["status"]) == ("ERROR", 500)
    assert error["request_id"] == access["request_id"]
    assert "inner details" in error["exception"]


async def test_a_fault_after_the_first_byte_is_raised_on_so_that_the_server_cuts_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("inner details")

    with pytest.raises(ValueError, match="inner details"):
        await run(passed_by(app))


async def test_a_request_that_is_cancelled_is_logged_as_given_up_by_its_client(lines: Lines) -> None:
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(passed_by(app)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line["status"] for line in lines.all("serve.access")] == [499]


async def test_the_start_and_the_end_of_a_server_pass_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await run(passed_by(app), "lifespan")
    assert seen == ["lifespan"]


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
async def test_a_socket_that_is_refused_is_told_as_well_as_the_server_can(extensions: dict[str, Any]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("inner details")

    sent = await run(passed_by(app), "websocket", extensions=extensions)
    if extensions:
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 500
    else:
        assert sent == [{"type": "websocket.close", "code": 1008}]


PRIVATE = "my private words"


async def private(group: Group, path: str = CHAT, **fields: Any) -> httpx.Response:
    """A request full of private words."""
    body = {"model": "m", "messages": [{"role": "user", "content": PRIVATE}], "metadata": {"a": PRIVATE}}
    async with group.client() as client:
        return await client.post(path, json=body | {"user": PRIVATE, "store": True} | fields)


async def test_no_log_line_holds_what_was_said_whatever_goes_wrong(one: Group, lines: Lines) -> None:
    one.configure(timeouts={"replica_wait": 0})
    assert (await private(one)).status_code == 200
    assert (await private(one, model="none")).status_code == 404
    assert (await private(one, messages=[{"role": PRIVATE}])).status_code == 400
    assert (await private(one, messages=PRIVATE, stop=[PRIVATE] * 99)).status_code == 400
    assert (await private(one, "/v1/embeddings", input=PRIVATE)).status_code == 400
    assert (await private(one, "/v1/feedback", correction=PRIVATE)).status_code == 400
    one.transport.failures = [ReplicaLost("killed", begun=False)]
    assert (await private(one)).status_code == 503
    one.transport.apps["m"] = replica(Scripted([Delta(text=PRIVATE)], ValueError("inner"))).asgi
    assert (await private(one)).status_code == 500
    assert frames((await private(one, stream=True)).content)[-1]["error"]["code"] == "internal_error"
    one.transport.apps["m"] = replica(Scripted([Delta(text=PRIVATE)], asyncio.Event())).asgi
    one.transport.cuts = [1]
    assert frames((await private(one, stream=True)).content)[-1]["error"]["code"] == "model_lost"
    one.transport.apps["m"] = replica(echo()).asgi
    await one.store.close()
    assert (await private(one)).status_code == 500
    assert frames((await private(one, stream=True)).content)[-1]["error"]["code"] == "internal_error"
    await one.store.open()
    assert len([line for line in lines.all() if line["message"] == "request"]) == 12
    assert any(line["level"] == "ERROR" for line in lines.all())
    assert PRIVATE not in lines.text
