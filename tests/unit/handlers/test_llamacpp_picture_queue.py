"""Pictures of chats on their way to llama.cpp's encoder: what is held of them, how long, and whose turn it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from PIL import Image

from serve.errors import InvalidRequest, QueueFull
from serve.handlers.llamacpp.pictures import PictureQueue
from serve.pictures.resize import view_of
from serve.pictures.room import PictureRoom
from serve.settings.pictures import PictureGrid, PictureLimits
from tests.llamacpp import until
from tests.pictures import file_of, plain, url_of

GRID = PictureGrid(14, 2, 28 * 28, 4 * 28 * 28, "pixels")
SIZE = (280, 140)
WHOLE = SIZE[0] * SIZE[1]
SEEN = view_of(*SIZE, GRID).seen
AREA = SEEN[0] * SEEN[1]
URL = url_of(file_of(plain("red", SIZE)))
PARTS = [(URL, "a")]

Size = tuple[int, int]


class Encoder:
    """Stands where libmtmd would; each request stays in it until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.inside = 0
        self.most = 0
        self.left: list[bool] = []

    def __call__(self, pictures: Sequence[Image.Image], left: threading.Event) -> list[Size]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.go.acquire(timeout=30)
        self.inside -= 1
        self.left.append(left.is_set())
        return [picture.size for picture in pictures]


class Way:
    """A queue, its room and its encoder."""

    def __init__(self, most: int = 64, grid: PictureGrid | None = GRID, **limits: float) -> None:
        self.room, self.encoder, self.grid = PictureRoom(), Encoder(), grid
        self.queue = PictureQueue("seer", most, PictureLimits.model_validate(limits), self.room)

    def ask(self, parts: Sequence[tuple[str, str]] = PARTS) -> asyncio.Task[list[Size]]:
        return asyncio.create_task(self.queue.encode(parts, self.grid, self.encoder))

    async def waiting(self, pixels: int) -> None:
        """Wait until the encoder works and nothing but ``pixels`` is held."""
        await until(lambda: self.encoder.inside == 1 and self.room.used == pixels)

    async def ends(self, *tasks: asyncio.Task[list[Size]]) -> list[list[Size]]:
        """Let all go, and see that nothing is held behind them."""
        self.encoder.go.release(len(tasks))
        found = await asyncio.gather(*tasks)
        assert self.room.used == 0
        return found


async def left(task: asyncio.Task[list[Size]]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_pictures_wait_as_the_model_sees_them_and_are_encoded_one_request_at_a_time() -> None:
    # Were they held as they came, there were room for one of them.
    way = Way(pixels_at_once=WHOLE + 6 * AREA, wait_seconds=0.5)
    asked = [way.ask() for _ in range(6)]
    await way.waiting(6 * AREA)
    assert await way.ends(*asked) == [[SEEN]] * 6
    assert way.encoder.most == 1


async def test_all_pictures_of_a_request_are_held_until_the_encoder_has_taken_the_last() -> None:
    way = Way()
    asked = way.ask([(URL, "a"), (url_of(file_of(plain("blue", (28, 28)))), "b")])
    await way.waiting(AREA + 28 * 28)
    assert await way.ends(asked) == [[SEEN, (28, 28)]]


async def test_pictures_of_a_model_whose_grid_is_not_known_wait_as_they_are() -> None:
    way = Way(grid=None)
    asked = [way.ask(), way.ask()]
    await way.waiting(2 * WHOLE)
    assert await way.ends(*asked) == [[SIZE], [SIZE]]


async def test_who_leaves_while_it_waits_gives_its_room_back_at_once() -> None:
    way = Way()
    first = way.ask()
    await way.waiting(AREA)
    second, third = way.ask(), way.ask()
    await way.waiting(3 * AREA)
    await left(second)
    assert way.room.used == 2 * AREA and way.encoder.inside == 1
    assert await way.ends(first, third) == [[SEEN], [SEEN]]


async def test_who_leaves_while_it_is_encoded_has_turn_and_room_until_the_encoder_lets_go() -> None:
    way = Way()
    first = way.ask()
    await way.waiting(AREA)
    second = way.ask()
    await way.waiting(2 * AREA)
    await left(first)
    await asyncio.sleep(0.05)
    assert way.room.used == 2 * AREA and way.encoder.inside == 1
    way.encoder.go.release()
    await way.waiting(AREA)
    assert await way.ends(second) == [[SEEN]]
    assert way.encoder.left == [True, False] and way.encoder.most == 1


async def test_what_fails_in_the_encoder_gives_turn_and_room_back() -> None:
    way = Way()

    def fails(pictures: Sequence[Image.Image], left: threading.Event) -> None:
        raise RuntimeError("llama.cpp cannot encode a picture")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot encode"):
            await way.queue.encode(PARTS, GRID, fails)
        assert way.room.used == 0
    assert await way.ends(way.ask()) == [[SEEN]]


async def test_a_picture_that_cannot_be_taken_gives_back_the_room_of_all() -> None:
    way = Way()
    with pytest.raises(InvalidRequest, match="Picture 1 cannot be taken") as raised:
        await way.ask([(URL, "a"), (url_of(file_of(plain("red", SIZE))[:-30]), "b")])
    assert raised.value.param == "b" and way.room.used == 0


async def test_more_requests_than_may_wait_are_refused() -> None:
    way = Way(most=2)
    asked = [way.ask()]
    await way.waiting(AREA)
    asked.append(way.ask())
    await way.waiting(2 * AREA)
    with pytest.raises(QueueFull):
        await way.ask()
    await left(asked.pop())
    asked.append(way.ask())
    await way.waiting(2 * AREA)
    assert await way.ends(*asked) == [[SEEN], [SEEN]]
