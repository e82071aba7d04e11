"""When what a step made ready goes to the event loop. Without llama.cpp's models."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence

import pytest

from serve.errors import InternalError
from serve.handlers.llamacpp.outbox import Outbox
from serve.handlers.llamacpp.output import OutputForm
from serve.handlers.llamacpp.plan import Plan
from serve.handlers.llamacpp.sequence import Stream
from serve.protocol.events import Delta, Event
from serve.protocol.requests import CompletionRequest
from serve.protocol.sampling import SamplingDefaults, resolve

INTERVAL = 0.5


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("serve.handlers.llamacpp.outbox.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def stream() -> Stream:
    sampling = resolve(CompletionRequest(model="m", prompt=""), SamplingDefaults())
    return Stream(Plan(array("i", [1]), sampling, OutputForm()))


def piece(text: str) -> Delta:
    return Delta(0, text)


async def said(outbox: Outbox, *streams: Stream) -> list[Sequence[Event]]:
    """What one delivery brings each of the streams."""
    assert outbox.deliver(asyncio.get_running_loop())
    await asyncio.sleep(0)
    return [await taken(one) for one in streams]


async def taken(one: Stream) -> Sequence[Event]:
    """What is there for the stream now."""
    try:
        async with asyncio.timeout(0):
            return await one.take()
    except TimeoutError:
        return []


async def waiting() -> tuple[Outbox, Stream]:
    """A stream whose "a" is said, and whose "b" waits in the outbox."""
    outbox, one = Outbox(INTERVAL), stream()
    outbox.add(one, piece("a"))
    await said(outbox, one)
    outbox.add(one, piece("b"))
    return outbox, one


async def test_a_streams_first_piece_goes_at_once_and_those_within_the_interval_go_together(clock: Clock) -> None:
    outbox, one = Outbox(INTERVAL), stream()
    outbox.add(one, piece("a"))
    assert await said(outbox, one) == [[piece("a")]]
    for text in "bc":
        clock.now += 0.2
        outbox.add(one, piece(text))
        assert await said(outbox, one) == [[]]
    clock.now += 0.1
    outbox.add(one, piece("d"))
    assert await said(outbox, one) == [[piece("b"), piece("c"), piece("d")]]
    clock.now += 0.4
    outbox.add(one, piece("e"))
    assert await said(outbox, one) == [[]]


async def test_what_waits_goes_when_its_time_has_come_though_nothing_new_is_there(clock: Clock) -> None:
    outbox, one = await waiting()
    assert await said(outbox, one) == [[]]
    clock.now += INTERVAL
    assert await said(outbox, one) == [[piece("b")]]
    assert await said(outbox, one) == [[]]


async def test_the_end_of_a_stream_takes_along_what_waits(clock: Clock) -> None:
    outbox, one = await waiting()
    one.over = True
    outbox.add(one, one.usage())
    assert await said(outbox, one) == [[piece("b"), one.usage()]]


async def test_streams_wait_each_for_themselves(clock: Clock) -> None:
    outbox, old, new = Outbox(INTERVAL), stream(), stream()
    outbox.add(old, piece("a"))
    await said(outbox, old)
    clock.now += 0.1
    outbox.add(old, piece("b"))
    outbox.add(new, piece("x"))
    assert await said(outbox, old, new) == [[], [piece("x")]]


async def test_an_error_goes_at_once_behind_what_waits(clock: Clock) -> None:
    outbox, one = await waiting()
    one.over = True
    outbox.fail(one, InternalError("broken"))

    assert await said(outbox, one) == [[piece("b")]]
    with pytest.raises(InternalError):
        await one.take()


async def test_without_an_interval_every_piece_goes_by_itself(clock: Clock) -> None:
    outbox, one = Outbox(0), stream()
    for text in "abc":
        outbox.add(one, piece(text))
        assert await said(outbox, one) == [[piece(text)]]


def test_a_loop_that_is_closed_takes_nothing(clock: Clock) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert not Outbox(INTERVAL).deliver(loop)
