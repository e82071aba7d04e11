"""Calls of replicas to the ledger of their node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.residency.desk import Desk, is_alive, this_process
from serve.residency.ledger import NOTHING, Holder, Ledger, Reply, Report
from serve.residency.need import PROCESS_BYTES

A, B = Holder(1, 0.0), Holder(2, 0.0)


def desk(room: int = 10, *, dead: set[Holder] | None = None, quiet: float = 0.0) -> Desk:
    """A desk with room for models beside two processes."""
    gone = dead if dead is not None else set()
    return Desk(Ledger(room + 2 * PROCESS_BYTES), lambda holder: holder not in gone, quiet=quiet)


def idle(model: str) -> Report:
    return Report(model, "loaded", 10, on_demand=True, idle_seconds=60)


@asynccontextmanager
async def waiting(desk: Desk, holder: Holder, report: Report) -> AsyncIterator[asyncio.Task[Reply]]:
    """A call under way, which must end within the block."""
    task = asyncio.create_task(desk.sync(holder, report, 60))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        yield task
        await task


async def test_a_call_without_a_wait_is_answered_at_once() -> None:
    one = desk()
    assert await one.sync(A, Report("a", "loaded", 10), 0) == NOTHING
    assert await one.sync(B, Report("b", "waiting", 0), 0) == Reply(granted=True)


async def test_a_call_with_nothing_to_say_ends_after_its_wait() -> None:
    assert await desk().sync(A, Report("a", "loaded", 10), 0.01) == NOTHING


async def test_one_that_wants_room_makes_an_idle_one_hear_of_it_at_once() -> None:
    one = desk()
    async with waiting(one, A, idle("a")) as follows, waiting(one, B, Report("b", "waiting", 10)) as wants:
        assert await follows == Reply(unload=True)
        assert not wants.done()
        await one.sync(A, Report("a", "resting", 10, on_demand=True), 0)
        assert await wants == Reply(granted=True)


async def test_one_that_became_idle_is_heard_of_by_those_that_wait() -> None:
    one = desk()
    await one.sync(A, Report("a", "loaded", 10, on_demand=True, busy=1), 0)
    async with waiting(one, B, Report("b", "waiting", 10)) as wants:
        assert await one.sync(A, idle("a"), 0) == Reply(unload=True)
        await one.sync(A, Report("a", "resting", 10), 0)
        assert (await wants).granted


async def test_the_room_of_a_process_that_died_is_given_away() -> None:
    dead: set[Holder] = set()
    one = desk(dead=dead)
    await one.sync(A, Report("a", "loaded", 10, busy=1), 0)
    dead.add(A)
    assert (await one.sync(B, Report("b", "waiting", 10), 0)).granted
    assert one.holders() == [B]
    assert [report.model for report in one.reports()] == ["b"]


async def test_a_ledger_that_begins_among_replicas_grants_nothing_before_all_have_spoken() -> None:
    assert await desk(quiet=60).sync(A, Report("a", "waiting", 1), 0.01) == NOTHING


async def test_a_call_that_is_given_up_holds_up_no_other() -> None:
    one = desk()
    task = asyncio.create_task(one.sync(A, Report("a", "loaded", 10), 60))
    await asyncio.sleep(0)
    task.cancel()
    assert (await one.sync(B, Report("b", "waiting", 0), 0)).granted


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone() -> None:
    mine = this_process()
    assert mine.pid == os.getpid() and is_alive(mine)
    assert not is_alive(Holder(mine.pid, mine.started - 100))
    assert not is_alive(Holder(2**22 + 1, 0.0))
