"""Bodies with a limit, JSON answers, and every error as OpenAI's error object."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import InvalidRequest, PayloadTooLarge, RateLimited
from serve.protocol.http import Errors, Routes, header, read_body, send_json


def receiving(*messages: Message) -> Receive:
    """What an ASGI server would hand over."""
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    return receive


def part(body: bytes, *, more: bool = False) -> Message:
    """A piece of a request's body."""
    return {"type": "http.request", "body": body, "more_body": more}


def declared(length: bytes) -> Scope:
    """A request that declares its length."""
    return {"type": "http", "headers": [(b"content-length", length)]}


UNDECLARED: Scope = {"type": "http", "headers": []}


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    raise RateLimited("slow down", retry_after=1.2)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("secret details")


async def half(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("secret details")


async def left(scope: Scope, receive: Receive, send: Send) -> None:
    raise ClientDisconnect


async def ask(app: ASGIApp, path: str = "/", method: str = "GET") -> httpx.Response:
    """Ask an app as a client would."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.request(method, path)


async def run(app: ASGIApp) -> list[Message]:
    """The messages that an app sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "path": "/", "headers": [], "method": "GET"}, receiving(), send)
    return sent


async def test_a_body_in_pieces_is_joined() -> None:
    receive = receiving(part(b"ab", more=True), part(b"", more=True), part(b"cd"))
    assert await read_body(UNDECLARED, receive, 4) == b"abcd"


async def test_a_request_without_a_body_has_an_empty_one() -> None:
    assert await read_body(UNDECLARED, receiving({"type": "http.request"}), 4) == b""


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert await read_body(declared(b"4"), receiving(part(b"abcd")), 4) == b"abcd"


async def test_a_body_that_declares_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(PayloadTooLarge, match="has 5 bytes; the most allowed is 4"):
        await read_body(declared(b"5"), receiving(), 4)


@pytest.mark.parametrize("scope", [UNDECLARED, declared(b"2"), declared(b"-1"), declared(b"x")])
async def test_a_body_that_grows_too_long_is_refused_whatever_it_declared(scope: Scope) -> None:
    endless = receiving(part(b"abc", more=True), part(b"de", more=True))
    with pytest.raises(PayloadTooLarge, match="more than 4 bytes"):
        await read_body(scope, endless, 4)


async def test_a_client_that_leaves_before_its_body_ends_is_noticed() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(UNDECLARED, receiving(part(b"ab", more=True), {"type": "http.disconnect"}), 4)


def test_a_header_is_found_by_its_name() -> None:
    scope: Scope = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}
    assert (header(scope, b"a"), header(scope, b"b"), header(scope, b"c")) == (b"1", b"2", None)


async def test_json_is_sent_with_its_length() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, {"text": "ü👩"}, status=201, headers=[(b"x-more", b"1")])

    answer = await ask(app)
    assert (answer.status_code, answer.json(), answer.headers["x-more"]) == (201, {"text": "ü👩"}, "1")
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_an_error_that_passes_carries_retry_after_in_whole_seconds() -> None:
    answer = await ask(Errors(raising))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_fault_of_the_program_is_logged_and_its_details_are_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await ask(Errors(broken))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["request failed"]


async def test_an_error_that_a_client_made_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise InvalidRequest("no")

    assert (await ask(Errors(app))).status_code == 400
    assert not caplog.records


async def test_a_failure_after_the_first_byte_is_raised_on_so_that_the_server_cuts_the_connection() -> None:
    with pytest.raises(ValueError, match="secret"):
        await run(Errors(half))


async def test_a_client_that_left_is_answered_nothing() -> None:
    assert await run(Errors(left)) == []


async def test_an_unknown_address_and_a_wrong_method_are_openai_errors() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, {})

    routed = Errors(Routes([Route("/a", _Endpoint(app), methods=["POST"])], redirect_slashes=False))
    missing, wrong, right = await ask(routed, "/b"), await ask(routed, "/a"), await ask(routed, "/a", "POST")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert right.status_code == 200
    assert (await ask(routed, "/a/", "POST")).status_code == 404


class _Endpoint:
    """An ASGI app as an endpoint; Starlette takes a plain function for a view."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
