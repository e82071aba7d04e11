"""A model in a replica's memory: loaded, used, unloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from serve.errors import ModelResting, Unavailable
from serve.handlers.base import Capabilities
from serve.residency import ledger as ledger_module
from serve.residency import resident as resident_module
from serve.residency.desk import Desk, LedgerLine, LedgerLost
from serve.residency.ledger import Holder, Ledger, Reply, Report
from serve.residency.need import PROCESS_BYTES
from serve.residency.resident import DoesNotFit, Resident
from serve.settings.model import ModelSettings
from tests.unit.gateway.group import settled
from tests.unit.replica.models import Scripted, resident


class Heavy(Scripted):
    """Counts how often it is loaded and unloaded; loading waits until it may go on."""

    def __init__(self, id: str = "m", residency: str = "on_demand") -> None:
        super().__init__(id=id, context=77)
        self.settings = ModelSettings.model_validate({"id": id, "handler": "echo", "residency": residency})
        self.loads = self.unloads = 0
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.failure: Exception | None = None

    async def load(self) -> None:
        self.loads += 1
        await self.may_load.wait()
        if self.failure:
            raise self.failure

    async def unload(self) -> None:
        self.unloads += 1

    @property
    def capabilities(self) -> Capabilities:
        if self.loads == self.unloads:
            raise Unavailable("not loaded")
        return super().capabilities


class Node:
    """Replicas of this process with one ledger, each as if it had a process of its own."""

    def __init__(self, room: int, replicas: int) -> None:
        self.desk = Desk(Ledger(room + replicas * PROCESS_BYTES), lambda holder: True)
        self.count = 0

    def replica(self, handler: Heavy, need: int = 10) -> Resident:
        made = resident(handler, need, self.desk)
        self.count += 1
        made._holder = Holder(self.count, 0.0)
        return made

    @asynccontextmanager
    async def started(self, handler: Heavy, need: int = 10) -> AsyncIterator[Resident]:
        made = self.replica(handler, need)
        async with asyncio.timeout(10):
            await made.start()
        yield made
        await made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models may go as soon as they are idle, and speak often."""
    monkeypatch.setattr(ledger_module, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(resident_module, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(resident_module, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(resident_module, "_WANT_SECONDS", 0.01)
    monkeypatch.setattr(resident_module, "_RETRY_SECONDS", 0.01)


async def test_a_model_is_loaded_at_the_start() -> None:
    async with Node(10, 1).started(Heavy()) as one:
        assert (one.state, one.report().state) == ("loaded", "loaded")
        with one.in_use():
            assert one.report().busy == 1
        assert one.report().busy == 0


async def test_two_models_take_turns_where_only_one_fits() -> None:
    node = Node(10, 2)
    a, b = Heavy("a"), Heavy("b")
    async with node.started(a) as first, node.started(b) as second:
        assert (first.state, second.state) == ("resting", "loaded")
        with pytest.raises(ModelResting), first.in_use():
            pass
        await first.load()
        assert (first.state, second.state) == ("loaded", "resting")
        assert (a.loads, a.unloads, b.loads, b.unloads) == (2, 1, 1, 1)


async def test_a_busy_model_is_not_unloaded_until_its_requests_have_ended() -> None:
    node = Node(10, 2)
    async with node.started(Heavy("a")) as first:
        other = node.replica(Heavy("b"))
        with first.in_use():
            wants = asyncio.create_task(other.load())
            await settled(lambda: other.state == "waiting")
            await asyncio.sleep(0.05)
            assert (first.state, other.state) == ("loaded", "waiting")
        await asyncio.wait_for(wants, 10)
        assert first.state == "resting"


async def test_all_who_ask_while_it_loads_wait_for_one_load() -> None:
    handler = Heavy()
    one = Node(10, 1).replica(handler)
    handler.may_load.clear()
    asking = [asyncio.create_task(one.load()) for _ in range(5)]
    await settled(lambda: handler.loads)
    handler.may_load.set()
    await asyncio.gather(*asking)
    assert (handler.loads, one.state) == (1, "loaded")


async def test_one_who_leaves_while_it_loads_does_not_stop_the_load() -> None:
    handler = Heavy()
    one = Node(10, 1).replica(handler)
    handler.may_load.clear()
    asking = asyncio.create_task(one.load())
    await settled(lambda: handler.loads)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    handler.may_load.set()
    await settled(lambda: one.state == "loaded")


async def test_a_wait_for_room_ends_when_nobody_waits_any_more() -> None:
    node = Node(10, 2)
    async with node.started(Heavy("a")) as first:
        other = node.replica(Heavy("b"))
        with first.in_use():
            asking = [asyncio.create_task(other.load()) for _ in range(2)]
            await settled(lambda: other.state == "waiting")
            asking[0].cancel()
            await asyncio.sleep(0.02)
            assert other.state == "waiting"
            asking[1].cancel()
            await settled(lambda: other.state == "resting")
        await asyncio.sleep(0.05)
        assert first.state == "loaded"


async def test_a_model_that_cannot_be_loaded_holds_nothing_and_may_be_tried_again() -> None:
    handler = Heavy()
    node = Node(10, 1)
    one = node.replica(handler)
    handler.failure = OSError("the file is gone")
    with pytest.raises(OSError, match="the file is gone"):
        await one.load()
    assert (one.state, [report.state for report in node.desk.reports()]) == ("resting", ["resting"])
    assert handler.unloads == 1
    handler.failure = None
    await one.load()
    assert one.state == "loaded"


async def test_a_model_that_can_never_fit_is_refused_at_once() -> None:
    with pytest.raises(DoesNotFit, match=r"needs 9\.00 GB"):
        await Node(10, 1).replica(Heavy(), need=9_000_000_000).start()


async def test_a_model_that_always_stays_is_never_asked_to_go() -> None:
    node = Node(10, 2)
    async with node.started(Heavy("a", residency="always")) as first:
        with pytest.raises(DoesNotFit):
            await node.replica(Heavy("b")).load()
        assert first.state == "loaded"


async def test_what_a_model_can_do_is_known_while_it_rests() -> None:
    node = Node(10, 2)
    async with node.started(Heavy("a")) as first, node.started(Heavy("b")):
        assert first.state == "resting"
        assert first.capabilities.context == 77


async def test_a_request_that_comes_just_before_the_unloading_keeps_the_model() -> None:
    node = Node(10, 1)
    handler = Heavy()
    async with node.started(handler) as one:
        with one.in_use():
            await one._rest()
        assert (one.state, handler.unloads) == ("loaded", 0)


class Lossy(LedgerLine):
    """A line to a ledger that is lost now and then."""

    def __init__(self, desk: Desk, losses: int) -> None:
        self._desk = desk
        self.losses = losses

    async def sync(self, holder: Holder, report: Report, wait: float) -> Reply:
        if self.losses:
            self.losses -= 1
            raise LedgerLost("killed")
        return await self._desk.sync(holder, report, wait)


async def test_a_lost_ledger_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(10, 1)
    one = node.replica(Heavy())
    line = one._line = Lossy(node.desk, 3)
    await one.start()
    line.losses = 2
    await settled(lambda: line.losses == 0)
    one.check()
    assert one.state == "loaded" and "the ledger does not answer" in caplog.text
    await one.close()


async def test_a_replica_that_no_longer_follows_its_ledger_is_replaced() -> None:
    async with Node(10, 1).started(Heavy()) as one:
        one.check()
        assert one._follower is not None
        one._follower.cancel()
        await asyncio.sleep(0)
        await settled(one._follower.done)
        with pytest.raises(Unavailable):
            one.check()
