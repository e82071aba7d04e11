"""Room for decoded pictures: in turn, bounded in time, given back by whoever forgets."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.errors import TooManyPictures
from serve.pictures.room import Held, PictureRoom


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
