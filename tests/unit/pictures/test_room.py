"""Room for decoded pictures: in turn, bounded in time, given back by whoever forgets."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.errors import TooManyPictures
from serve.pictures.room import Held, PictureRoom, run_in


async def taken(room: PictureRoom, pixels: int, seconds: float = 5.0) -> Held:
    return await room.take(pixels, most=100, seconds=seconds)


async def test_what_does_not_fit_waits_for_what_is_there() -> None:
    room = PictureRoom()
    first = await taken(room, 60)
    waiting = asyncio.create_task(taken(room, 60))
    await asyncio.sleep(0.01)
    assert not waiting.done() and room.used == 60
    first.close()
    assert room.used == 60
    (await waiting).close()
    assert room.used == 0


async def test_a_small_one_does_not_pass_a_large_one() -> None:
    room = PictureRoom()
    first = await taken(room, 60)
    large, small = asyncio.create_task(taken(room, 90)), asyncio.create_task(taken(room, 10))
    await asyncio.sleep(0.01)
    assert not large.done() and not small.done()
    first.close()
    (await large).close()
    (await small).close()


async def test_what_is_larger_than_the_room_is_let_in_alone() -> None:
    room = PictureRoom()
    huge = await taken(room, 1000)
    with pytest.raises(TooManyPictures):
        await taken(room, 1, seconds=0.02)
    huge.close()
    (await taken(room, 1)).close()


async def test_who_leaves_while_waiting_is_passed_over() -> None:
    room = PictureRoom()
    first = await taken(room, 60)
    leaves, stays = asyncio.create_task(taken(room, 90)), asyncio.create_task(taken(room, 30))
    await asyncio.sleep(0.01)
    leaves.cancel()
    (await stays).close()
    first.close()
    assert room.used == 0


async def test_who_leaves_in_the_moment_of_its_turn_gives_it_back() -> None:
    room = PictureRoom()
    first = await taken(room, 60)
    leaves = asyncio.create_task(taken(room, 90))
    await asyncio.sleep(0.01)
    first.close()
    assert room.used == 90
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert room.used == 0


async def test_what_is_forgotten_is_given_back_and_what_is_closed_twice_once() -> None:
    room = PictureRoom()
    held = await taken(room, 60)
    other = await taken(room, 30)
    del held
    gc.collect()
    assert room.used == 30
    other.close()
    other.close()
    assert room.used == 0


async def test_room_is_given_back_from_any_thread() -> None:
    room = PictureRoom()
    held = await taken(room, 60)
    waiting = asyncio.create_task(taken(room, 60))
    await asyncio.sleep(0.01)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.close).result()
    (await asyncio.wait_for(waiting, 5)).close()


async def test_what_is_over_is_given_back_and_the_rest_later() -> None:
    room = PictureRoom()
    held = await taken(room, 60)
    waiting = asyncio.create_task(taken(room, 60))
    held.shrink(70)
    await asyncio.sleep(0.01)
    assert room.used == 60 and not waiting.done()
    held.shrink(40)
    other = await asyncio.wait_for(waiting, 5)
    assert room.used == 100
    held.close()
    held.shrink(10)
    assert room.used == 60
    other.shrink(20)
    del other, waiting
    gc.collect()
    assert room.used == 0


async def test_room_without_a_limit_of_time_is_waited_for() -> None:
    room = PictureRoom()
    first = await taken(room, 60)
    waiting = asyncio.create_task(room.take(60, most=100, seconds=None))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    first.close()
    (await waiting).close()
    assert room.used == 0


async def test_what_a_thread_works_with_is_held_until_it_ends_and_not_until_nobody_waits() -> None:
    room, begun, go = PictureRoom(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(30)

    with ThreadPoolExecutor(1) as pool:
        one, other = await taken(room, 40), await taken(room, 30)
        runs, queued = [asyncio.create_task(run_in(pool, work, held)) for held in (one, other)]
        await asyncio.to_thread(begun.wait, 30)
        for task, left in ((queued, 40), (runs, 40)):  # What had not begun is given back at once.
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() and room.used == left
        go.set()
    assert room.used == 0


async def test_what_failing_work_has_is_given_back_and_what_working_work_has_stays() -> None:
    room = PictureRoom()
    with ThreadPoolExecutor(1) as pool:
        held = await taken(room, 40)
        assert await run_in(pool, lambda: 7, held) == 7
        assert room.used == 40
        with pytest.raises(ZeroDivisionError):
            await run_in(pool, lambda: 1 / 0, held)
        assert room.used == 0
