"""What the handler does when the other server fails: retries, errors, the breaker."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from email.utils import formatdate
from typing import Any

import pytest

from serve.errors import (
    GroupQwenError,
    InvalidRequest,
    QueueFull,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve.handlers.upstream.faults import seconds_in
from tests.unit.gateway.group import settled
from tests.unit.handlers.upstream_server import (
    DONE,
    HELLO,
    HELLO_EVENTS,
    QUICK,
    Answer,
    broken_off,
    chat,
    chunk,
    data,
    error,
    events,
    loaded,
    pair,
    sampling,
    settings,
    stream,
    whole,
)

GOOD = stream(HELLO, DONE)


async def dropped(send: Any) -> None:
    """A server that closes the connection without an answer."""


@pytest.mark.parametrize(
    "bad", [error(503), error(500), error(408), error(429), dropped], ids=["503", "500", "408", "429", "no answer"]
)
async def test_a_request_that_failed_before_its_first_byte_is_sent_again(bad: Answer) -> None:
    async with pair(bad, bad, GOOD) as (server, handler):
        assert await events(handler) == HELLO_EVENTS
        assert len(server.asked) == 3
        assert server.asked[0].body == server.asked[2].body


async def test_a_request_is_sent_again_as_often_as_the_settings_say_and_no_more() -> None:
    async with pair(error(503), retries={**QUICK, "count": 1}) as (server, handler):
        with pytest.raises(UpstreamFailed, match="answered 503: It went wrong"):
            await events(handler)
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 302])
async def test_what_will_not_pass_is_not_sent_again(status: int) -> None:
    async with pair(error(status)) as (server, handler):
        with pytest.raises(GroupQwenError):
            await events(handler)
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_is_wrong_with_the_request_is_told_in_the_servers_words(status: int) -> None:
    async with pair(error(status, "Too long.\n  Shorten it.")) as (_, handler):
        with pytest.raises(InvalidRequest) as raised:
            await events(handler)
    assert (raised.value.status, raised.value.message) == (400, "Too long. Shorten it.")
    assert (raised.value.code, raised.value.param) == ("some_code", "messages")


@pytest.mark.parametrize("body", [b"<html>", b"5", b"[]", b'{"error": 5}', b'{"error": {"message": 5}}', b"{}"])
async def test_a_refusal_without_a_text_is_told_by_its_status(body: bytes) -> None:
    async with pair(whole(body, status=400)) as (_, handler):
        with pytest.raises(InvalidRequest, match="answered 400"):
            await events(handler)


async def test_a_text_of_any_length_is_cut() -> None:
    async with pair(error(400, "x" * 100_000)) as (_, handler):
        with pytest.raises(InvalidRequest) as raised:
            await events(handler)
    assert len(raised.value.message) <= 500


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_accepted_is_told_without_the_servers_words(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-hunter2")
    async with pair(error(status, "Incorrect API key: sk-hun***."), key_env="OTHER_KEY") as (_, handler):
        with pytest.raises(UpstreamFailed) as raised:
            await events(handler)
    assert (raised.value.status, raised.value.code) == (502, "upstream_auth")
    assert "sk-" not in raised.value.message + caplog.text
    assert "does not accept the key" in caplog.text


async def test_the_key_is_in_no_error_even_where_the_server_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-hunter2")
    for answer in (
        error(400, "Bad: sk-hunter2!"),
        error(500, "sk-hunter2"),
        whole({"error": {"message": "sk-hunter2"}}),
    ):
        async with pair(answer, key_env="OTHER_KEY", retries={"count": 0}) as (_, handler):
            with pytest.raises(GroupQwenError) as raised:
                await events(handler)
        assert "***" in raised.value.message
        assert "hunter2" not in str(raised.value)


async def test_a_server_that_allows_no_more_requests_is_passed_on_as_429_with_its_time() -> None:
    async with pair(error(429, retry_after="7")) as (server, handler):
        with pytest.raises(RateLimited) as raised:
            await events(handler)
        # It wants more patience than the settings allow, so the request is not sent again.
        assert len(server.asked) == 1
    assert (raised.value.status, raised.value.code) == (429, "upstream_rate_limited")
    assert raised.value.retry_after == 7


async def test_the_time_that_a_server_names_is_waited_before_the_next_try() -> None:
    async with pair(error(503, retry_after="1"), GOOD) as (_, handler):
        begun = time.monotonic()
        assert await events(handler) == HELLO_EVENTS
        assert time.monotonic() - begun >= 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("12", 12.0), ("9" * 400, 86_400.0), (" 3 ", 3.0), ("soon", None), ("-5", None), ("", None)],
)
def test_retry_after_is_a_number_of_seconds(header: str | None, seconds: float | None) -> None:
    assert seconds_in(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    found = seconds_in(formatdate(time.time() + 60, usegmt=True))
    assert found is not None
    assert 50 < found <= 60
    assert seconds_in(formatdate(time.time() - 60, usegmt=True)) == 0


async def test_a_slow_head_ends_with_a_timeout_and_is_not_sent_again() -> None:
    async def slow(send: Any) -> None:
        await asyncio.Event().wait()

    async with pair(slow, timeouts={"first_byte": 0.05}) as (server, handler):
        with pytest.raises(UpstreamTimeout) as raised:
            await events(handler)
        assert (raised.value.status, raised.value.code) == (504, "upstream_timeout")
        assert len(server.asked) == 1
        await settled(lambda: server.left)


async def test_a_body_that_never_begins_ends_with_a_timeout_too() -> None:
    async with pair(stream(asyncio.Event()), timeouts={"first_byte": 0.05}) as (_, handler):
        with pytest.raises(UpstreamTimeout, match="no answer in time"):
            await events(handler)


@pytest.mark.parametrize("status", [408, 504])
async def test_a_server_that_says_that_it_took_too_long_is_a_timeout(status: int) -> None:
    async with pair(error(status)) as (_, handler):
        with pytest.raises(UpstreamTimeout):
            await events(handler)


@pytest.fixture
def nowhere() -> str:
    """An address that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


async def test_a_server_that_is_not_there_is_an_error_and_the_replica_stays_healthy(nowhere: str) -> None:
    async with loaded(settings(nowhere)) as handler:
        with pytest.raises(UpstreamFailed, match="cannot be reached") as raised:
            await events(handler)
        assert raised.value.status == 502
        await handler.check()


async def test_what_is_not_http_is_an_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        async with loaded(settings(f"{host}:{port}")) as handler:
            with pytest.raises(UpstreamFailed, match="does not speak HTTP"):
                await events(handler)


async def test_a_server_that_fails_again_and_again_is_left_alone_and_this_is_seen() -> None:
    async with pair(error(500), breaker={"failures": 3, "open_seconds": 60}) as (server, handler):
        with pytest.raises(UpstreamFailed):
            await events(handler)
        assert len(server.asked) == 3
        assert handler.load_now().circuit_open
        with pytest.raises(Unavailable) as raised:
            await events(handler)
        assert len(server.asked) == 3
    assert (raised.value.status, raised.value.code) == (503, "upstream_unavailable")
    assert raised.value.retry_after is not None
    assert 1 <= raised.value.retry_after <= 60


async def test_the_breaker_ends_a_requests_own_retries() -> None:
    async with pair(error(500), breaker={"failures": 1}) as (server, handler):
        with pytest.raises(UpstreamFailed, match="answered 500"):
            await events(handler)
        assert len(server.asked) == 1


async def test_a_server_that_is_back_is_asked_again() -> None:
    async with pair(error(500), breaker={"failures": 1, "open_seconds": 0.05}, retries={"count": 0}) as (
        server,
        handler,
    ):
        with pytest.raises(UpstreamFailed):
            await events(handler)
        server.then(GOOD)
        await asyncio.sleep(0.06)
        assert await events(handler) == HELLO_EVENTS
        assert not handler.load_now().circuit_open


async def test_refusals_of_a_request_do_not_open_the_breaker() -> None:
    async with pair(error(400), breaker={"failures": 1}) as (_, handler):
        for _ in range(3):
            with pytest.raises(InvalidRequest):
                await events(handler)


async def test_answers_that_break_off_open_the_breaker() -> None:
    async with pair(stream(b"data: {}\n\n"), breaker={"failures": 2}) as (_, handler):
        for _ in range(2):
            with pytest.raises(UpstreamFailed):
                await events(handler)
        with pytest.raises(Unavailable):
            await events(handler)


async def test_requests_beyond_the_connections_wait_and_those_beyond_the_queue_are_refused() -> None:
    gate = asyncio.Event()
    async with pair(stream(gate, HELLO, DONE), max_connections=1) as (server, handler):
        first, second = (asyncio.create_task(events(handler)) for _ in range(2))
        await settled(lambda: server.asked and handler.load_now().queued == 1)
        assert handler.load_now().active == 1
        with pytest.raises(QueueFull):
            await events(handler)
        second.cancel()
        await settled(lambda: handler.load_now().queued == 0)
        third = asyncio.create_task(events(handler))
        gate.set()
        assert await first == await third == HELLO_EVENTS
        assert (handler.load_now().active, handler.load_now().queued) == (0, 0)


async def test_connections_are_kept_between_requests() -> None:
    async with pair() as (server, handler):
        for _ in range(3):
            await events(handler)
        assert handler._client is not None
        connector = handler._client._session.connector
        assert connector is not None
        assert sum(map(len, connector._conns.values())) == 1
        assert len(server.asked) == 3


async def test_why_an_answer_broke_off_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with pair(broken_off(data(chunk("a")))) as (_, handler):
        with pytest.raises(UpstreamFailed):
            await events(handler)
    (record,) = [record for record in caplog.records if record.name.startswith("serve")]
    assert (vars(record)["model"], vars(record)["status"]) == ("m", 502)
    assert "ClientPayloadError" in vars(record)["reason"]


async def test_no_prompt_and_no_key_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-hunter2")
    caplog.set_level(logging.DEBUG)
    request = chat(messages=[{"role": "user", "content": "a private matter"}])
    async with pair(error(503, "a private matter"), error(503), GOOD, key_env="OTHER_KEY") as (server, handler):
        async for _ in handler.chat(request, sampling(request)):
            pass
        for frame in (b'data: {"choices": "a private matter"}\n\n', b"data: {a private matter\n\n"):
            server.then(stream(frame))
            with pytest.raises(UpstreamFailed):
                await events(handler)
    lines = " ".join(
        f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name.startswith("serve")
    )
    assert "the server behind a model failed" in lines
    assert "hunter2" not in lines
    assert "private" not in lines
