"""Raw HTTP to Serve's proxy."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import QueueFull
from serve.gateway.transport.base import ReplicaLost
from serve.gateway.transport.http import HttpTransport
from serve.settings.gateway import Limits, Timeouts
from tests.unit.gateway.group import settled
from tests.unit.gateway.proxy import OF_A_MODEL, ask, chunked, plain, proxied, raw, whole


async def test_a_request_goes_to_the_models_route_with_its_headers_and_length() -> None:
    async with proxied(plain()) as (proxy, transport):
        await whole(transport, b'{"a": 1}')
        head, _, body = proxy.requests[0].partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"POST /m/m/v1/chat/completions HTTP/1.1",
            b"host: 127.0.0.1:%d" % proxy.port,
            b"x-request-id: r1",
            b"content-length: 8",
        ]
        assert body == b'{"a": 1}'


async def test_an_answer_of_declared_length_is_taken_whole() -> None:
    async with proxied(plain(b"hello", status=b"201 Created")) as (_, transport):
        assert await whole(transport) == (201, b"hello")


async def test_an_answer_without_a_body_ends_at_once() -> None:
    async with proxied(plain(b""), raw(b"HTTP/1.1 204 No Content\r\n%b\r\n" % OF_A_MODEL)) as (proxy, transport):
        assert await whole(transport) == (200, b"")
        assert await whole(transport) == (204, b"")
        assert proxy.connections == 1


async def test_a_stream_is_handed_over_as_it_comes() -> None:
    release = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n3\r\none\r\n" % OF_A_MODEL)
        await writer.drain()
        await release.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with proxied(script) as (_, transport):
        answer = await ask(transport)
        chunks = answer.chunks()
        assert await anext(chunks) == b"one"
        release.set()
        assert [chunk async for chunk in chunks] == [b"two"]
        answer.close()


@given(st.lists(st.integers(1, 80), max_size=20))
async def test_an_answer_is_read_wherever_its_bytes_are_cut(cuts: list[int]) -> None:
    stream = b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % OF_A_MODEL
    stream += b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\ntrailer: 1\r\n\r\n"
    parts = []
    for cut in cuts:
        parts.append(stream[:cut])
        stream = stream[cut:]
    async with proxied(raw(*parts, stream), plain(b"next")) as (proxy, transport):
        assert await whole(transport) == (200, b"hello world")
        assert await whole(transport) == (200, b"next")
        assert proxy.connections == 1


async def test_header_names_are_in_lower_case_and_values_as_they_came() -> None:
    async with proxied(plain(headers=b"X-GroupQwen-Model: m\r\nX-More: Ab C\r\n")) as (_, transport):
        answer = await ask(transport)
        assert (answer.header(b"x-more"), answer.header(b"x-none")) == (b"Ab C", None)
        answer.close()


async def test_a_connection_is_used_again_when_its_answer_was_taken_whole() -> None:
    async with proxied(plain(b"1"), chunked(b"2"), plain(b"3")) as (proxy, transport):
        assert [await whole(transport) for _ in range(3)] == [(200, b"1"), (200, b"2"), (200, b"3")]
        assert proxy.connections == 1


async def test_a_renewed_transport_asks_over_a_new_connection_and_keeps_answers_under_way() -> None:
    async with proxied(plain(), chunked(b"a", b"b"), plain()) as (proxy, transport):
        await whole(transport)
        under_way = await ask(transport)
        transport.renew()
        assert await under_way.body() == b"ab"
        under_way.close()
        transport.renew()
        await whole(transport)
        assert proxy.connections == 2


async def test_requests_at_once_have_a_connection_each() -> None:
    async with proxied(plain(b"1"), plain(b"2"), plain(b"3")) as (proxy, transport):
        answers = await asyncio.gather(*(whole(transport) for _ in range(3)))
        assert sorted(body for _, body in answers) == [b"1", b"2", b"3"]
        assert proxy.connections == 3


@pytest.mark.parametrize("header", [b"connection: close\r\n", b""])
async def test_a_connection_that_the_proxy_will_not_keep_is_not_used_again(header: bytes) -> None:
    first = plain(b"1", headers=OF_A_MODEL + header, end=not header)
    async with proxied(first, plain(b"2")) as (proxy, transport):
        await whole(transport)
        await settled(lambda: header or not proxy.writers)
        assert await whole(transport) == (200, b"2")
        assert proxy.connections == 2


async def test_a_kept_connection_that_has_died_is_replaced_without_a_word() -> None:
    async def dead(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with proxied(plain(b"1"), dead, plain(b"2")) as (proxy, transport):
        await whole(transport)
        assert await whole(transport, b'{"again": 1}') == (200, b"2")
        assert proxy.connections == 2
        assert proxy.requests[1] == proxy.requests[2]


async def test_a_new_connection_that_dies_is_told() -> None:
    async def dead(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with proxied(dead) as (_, transport):
        with pytest.raises(ReplicaLost) as raised:
            await ask(transport)
        assert not raised.value.begun


@pytest.mark.parametrize(
    "script",
    [
        chunked(b"half", finished=False),
        raw(b"HTTP/1.1 200 OK\r\n%bcontent-length: 100\r\n\r\nhalf" % OF_A_MODEL, end=True),
        raw(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nNOT HEX\r\n" % OF_A_MODEL),
    ],
    ids=["chunked", "sized", "garbage"],
)
async def test_an_answer_that_breaks_off_is_told_after_what_came(script: object) -> None:
    assert callable(script)
    async with proxied(script) as (_, transport):
        answer = await ask(transport)
        taken = []
        with pytest.raises(ReplicaLost) as raised:
            async for chunk in answer.chunks():
                taken.append(chunk)
        answer.close()
        assert b"".join(taken) == b"half"
        assert raised.value.begun


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_told(garbage: bytes) -> None:
    async with proxied(raw(garbage)) as (_, transport):
        with pytest.raises(ReplicaLost, match="not HTTP"):
            await ask(transport)


async def test_an_informational_head_is_passed_over() -> None:
    first = b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
    async with proxied(raw(first, b"HTTP/1.1 200 OK\r\n%bcontent-length: 2\r\n\r\nok" % OF_A_MODEL)) as (
        _,
        transport,
    ):
        answer = await ask(transport)
        assert (answer.status, answer.header(b"x-early"), await answer.body()) == (200, None, b"ok")
        answer.close()


async def test_a_body_that_ends_with_its_connection_is_whole() -> None:
    script = raw(b"HTTP/1.1 200 OK\r\n%b\r\n" % OF_A_MODEL, b"all ", b"of it", end=True)
    async with proxied(script, plain(b"2")) as (proxy, transport):
        assert await whole(transport) == (200, b"all of it")
        assert await whole(transport) == (200, b"2")
        assert proxy.connections == 2


@pytest.mark.parametrize(
    ("header", "wait"), [(b"retry-after: 7\r\n", 7.0), (b"", 1.0), (b"retry-after: soon\r\n", 1.0)]
)
async def test_a_full_queue_is_told_with_when_to_try_again(header: bytes, wait: float) -> None:
    script = plain(b"Request dropped", status=b"429 Too Many Requests", headers=header)
    async with proxied(script) as (_, transport):
        with pytest.raises(QueueFull) as raised:
            await ask(transport)
        assert (raised.value.retry_after, raised.value.status) == (wait, 429)


async def test_a_model_that_says_429_itself_is_listened_to() -> None:
    script = plain(b'{"error": {}}', status=b"429 Too Many Requests")
    async with proxied(script) as (_, transport):
        assert await whole(transport) == (429, b'{"error": {}}')


@pytest.mark.parametrize("status", [b"500 Internal Server Error", b"404 Not Found", b"503 Unavailable", b"200 OK"])
async def test_an_answer_that_is_not_the_models_counts_as_no_answer(status: bytes) -> None:
    async with proxied(plain(b"Internal Server Error", status=status, headers=b""), plain(b"2")) as (
        proxy,
        transport,
    ):
        with pytest.raises(ReplicaLost, match=status[:3].decode()) as raised:
            await ask(transport)
        assert not raised.value.begun
        assert await whole(transport) == (200, b"2")
        assert proxy.connections == 2


async def test_a_proxy_that_is_not_there_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        transport = HttpTransport("127.0.0.1", taken.getsockname()[1], Limits(), Timeouts())
        with pytest.raises(ReplicaLost, match="cannot be reached"):
            await ask(transport)
        await transport.close()


async def test_a_client_that_reads_slowly_stops_the_model_and_gets_everything() -> None:
    part = bytes(range(256)) * 256
    count = 400
    sent = 0

    async def script(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n" % (OF_A_MODEL, len(part) * count))
        for _ in range(count):
            writer.write(part)
            await writer.drain()
            sent += 1

    async with proxied(script, plain(b"2"), limits=Limits(socket_buffer_bytes=4096)) as (proxy, transport):
        answer = await ask(transport)
        chunks = answer.chunks()
        first = await anext(chunks)
        before = -1
        while sent != before:  # The buffers of both sockets fill up, and then nothing more goes.
            before = sent
            await asyncio.sleep(0.05)
        assert sent < count
        rest = [chunk async for chunk in chunks]
        assert max(map(len, rest)) < 2 * 1024 * 1024
        assert b"".join([first, *rest]) == part * count
        answer.close()
        assert await whole(transport) == (200, b"2")
        assert proxy.connections == 1


async def test_an_answer_closed_twice_gives_its_connection_back_once() -> None:
    async with proxied(plain(b"1"), plain(b"2"), plain(b"3")) as (proxy, transport):
        answer = await ask(transport)
        await answer.body()
        answer.close()
        answer.close()
        assert sorted(await asyncio.gather(whole(transport), whole(transport))) == [(200, b"2"), (200, b"3")]
        assert proxy.connections == 2


async def test_a_large_request_goes_out_whole() -> None:
    body = b"x" * 5_000_000
    async with proxied(plain(b"got it")) as (proxy, transport):
        assert await whole(transport, body) == (200, b"got it")
        assert proxy.requests[0].endswith(b"content-length: 5000000\r\n\r\n" + body)


async def test_bytes_that_nobody_asked_for_spoil_a_kept_connection() -> None:
    stray = asyncio.Event()

    async def more(writer: asyncio.StreamWriter) -> None:
        await plain(b"1")(writer)
        await writer.drain()
        await stray.wait()
        writer.write(b"garbage\r\n\r\n")

    async with proxied(more, plain(b"2")) as (proxy, transport):
        await whole(transport)
        stray.set()
        await asyncio.sleep(0.05)
        assert await whole(transport) == (200, b"2")
        assert proxy.connections == 2
