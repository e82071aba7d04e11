"""How many pixels of decoded pictures one process holds, all requests together."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from PIL import Image

from serve.errors import TooManyPictures

T = TypeVar("T")


@dataclass(slots=True)
class _Share:
    """What one holder has of a room."""

    pixels: int


class Held:
    """Pictures that have room. It is given back when this is closed, or forgotten by whoever works with it.

    Attributes:
        pictures: decoded.
    """

    def __init__(self, room: PictureRoom, pixels: int) -> None:
        self.pictures: list[Image.Image] = []
        self._room = room
        self._share = _Share(pixels)
        weakref.finalize(self, room.lower, self._share, 0).atexit = False

    def shrink(self, pixels: int) -> None:
        """Give back what is over ``pixels``; from any thread."""
        self._room.lower(self._share, pixels)

    def close(self) -> None:
        """Let go of the pictures; from any thread, more than once."""
        self.pictures.clear()
        self.shrink(0)

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Waiter:
    pixels: int
    most: int
    turn: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    granted: bool = False

    def wake(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


class PictureRoom:
    """Room for the decoded pictures of one process, given in the order in which it is asked for."""

    def __init__(self) -> None:
        # What is forgotten may be noticed within any call here.
        self._lock = threading.RLock()
        self._waiting: deque[_Waiter] = deque()
        self.used = 0

    async def take(self, pixels: int, *, most: int, seconds: float | None) -> Held:
        """Room for ``pixels``, once they fit into ``most`` with all that others hold; alone, any number does.

        Args:
            seconds: how long it may take; any time where there is none.

        Raises:
            TooManyPictures: it was not there within ``seconds``.
        """
        with self._lock:
            waiter = _Waiter(pixels, most, asyncio.get_running_loop().create_future())
            self._waiting.append(waiter)
            self._grant()
        try:
            if not waiter.granted:
                async with asyncio.timeout(seconds):
                    await waiter.turn
        except BaseException as raised:
            self._leave(waiter)
            if isinstance(raised, TimeoutError) and seconds is not None:
                raise TooManyPictures(seconds) from None
            raise
        return Held(self, pixels)

    def lower(self, share: _Share, pixels: int) -> None:
        """Take back what ``share`` has over ``pixels``, from any thread."""
        with self._lock:
            over = max(0, share.pixels - pixels)
            share.pixels -= over
            self._give(over)

    def _give(self, pixels: int) -> None:
        self.used -= pixels
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if self.used and self.used + first.pixels > first.most:
                return
            self._waiting.popleft()
            self.used += first.pixels
            first.granted = True
            first.loop.call_soon_threadsafe(first.wake)

    def _leave(self, waiter: _Waiter) -> None:
        """Whoever waited has left, in the moment of its turn or before it."""
        with self._lock:
            if waiter.granted:
                self._give(waiter.pixels)
            else:
                self._waiting.remove(waiter)
                self._grant()


async def run_in(pool: Executor, work: Callable[[], T], *held: Held) -> T:
    """What ``work`` gives, done in a thread of ``pool``.

    Where it fails, or nobody waits for it any more, ``held`` is closed: when it has ended, or at once where it did
    not begin.
    """
    job = pool.submit(work)
    try:
        return await asyncio.wrap_future(job)
    except BaseException:
        job.add_done_callback(lambda _: _close(held))
        raise


def _close(held: tuple[Held, ...]) -> None:
    for one in held:
        one.close()
