"""Requests to Serve's proxy that are given up: for their time, by the client, by the gateway's end."""

from __future__ import annotations

import asyncio

import pytest

from serve.gateway.transport.base import TASKS, ReplicaLost
from serve.settings.gateway import Timeouts
from tests.unit.gateway.group import settled
from tests.unit.gateway.proxy import OF_A_MODEL, ask, plain, proxied, silent, whole


async def test_an_answer_that_does_not_begin_in_time_is_given_up() -> None:
    released = asyncio.Event()
    async with proxied(silent(released), timeouts=Timeouts(first_byte=0.05)) as (_, transport):
        with pytest.raises(ReplicaLost, match=r"nothing came for 0\.05 s") as raised:
            await ask(transport)
        assert not raised.value.begun
        released.set()


async def test_a_task_has_a_time_of_its_own() -> None:
    released = asyncio.Event()
    timeouts = Timeouts(first_byte=0.05, task_first_byte=60)
    async with proxied(silent(released), silent(released), timeouts=timeouts) as (proxy, transport):
        asking = asyncio.create_task(transport.ask("m", "POST", "/", [], b"", TASKS))
        await settled(lambda: proxy.requests)
        with pytest.raises(ReplicaLost):
            await ask(transport)
        assert not asking.done()
        transport.timeouts = Timeouts(task_first_byte=0.05)
        with pytest.raises(ReplicaLost, match="nothing came"):
            await asking
        released.set()


async def test_a_request_that_is_given_up_on_a_kept_connection_is_not_sent_again() -> None:
    released = asyncio.Event()
    async with proxied(plain(), silent(released), timeouts=Timeouts(first_byte=0.05)) as (proxy, transport):
        await whole(transport)
        with pytest.raises(ReplicaLost, match="nothing came"):
            await ask(transport)
        assert len(proxy.requests) == 2
        released.set()


async def test_an_answer_that_stops_half_way_is_given_up() -> None:
    released = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n%bcontent-length: 100\r\n\r\nhalf" % OF_A_MODEL)
        await writer.drain()
        await released.wait()

    async with proxied(script, timeouts=Timeouts(between_bytes=0.05)) as (_, transport):
        answer = await ask(transport)
        with pytest.raises(ReplicaLost, match="nothing came") as raised:
            await answer.body()
        assert raised.value.begun
        answer.close()
        released.set()


async def test_timeouts_that_change_live_hold_for_requests_under_way() -> None:
    released = asyncio.Event()
    async with proxied(silent(released)) as (proxy, transport):
        asking = asyncio.create_task(ask(transport))
        await settled(lambda: proxy.requests)
        transport.timeouts = Timeouts(first_byte=0.05)
        with pytest.raises(ReplicaLost):
            await asking
        released.set()


async def test_an_answer_closed_before_its_end_cuts_the_connection_so_that_the_model_stops() -> None:
    gone = asyncio.Event()

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % OF_A_MODEL)
        try:
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            gone.set()
            raise

    async with proxied(endless) as (_, transport):
        answer = await ask(transport)
        await anext(answer.chunks())
        answer.close()
        async with asyncio.timeout(10):
            await gone.wait()


async def test_a_request_cancelled_before_its_answer_cuts_the_connection() -> None:
    released = asyncio.Event()
    async with proxied(silent(released)) as (proxy, transport):
        asking = asyncio.create_task(ask(transport))
        await settled(lambda: proxy.requests)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        released.set()
        await settled(lambda: not proxy.writers)


async def test_closing_the_transport_ends_requests_under_way_and_sends_none_again() -> None:
    released = asyncio.Event()
    async with proxied(plain(), silent(released)) as (proxy, transport):
        await whole(transport)
        asking = asyncio.create_task(ask(transport))
        await settled(lambda: len(proxy.requests) == 2)
        await transport.close()
        with pytest.raises(ReplicaLost, match="shutting down"):
            await asking
        assert len(proxy.requests) == 2
        released.set()
