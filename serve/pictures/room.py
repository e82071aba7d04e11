"""How many pixels of decoded pictures one process holds, all requests together."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType

from PIL import Image

from serve.errors import TooManyPictures


class Held:
    """Pictures that have room. It is given back when this is closed, or forgotten by whoever works with it: a thread
    that nobody waits for any more has its pictures until it ends.

    Attributes:
        pictures: decoded.
    """

    def __init__(self, room: PictureRoom, pixels: int) -> None:
        self.pictures: list[Image.Image] = []
        self._give = weakref.finalize(self, room.give, pixels)
        self._give.atexit = False

    def close(self) -> None:
        """Let go of the pictures; from any thread, more than once."""
        self.pictures.clear()
        self._give()

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

    async def take(self, pixels: int, *, most: int, seconds: float) -> Held:
        """Room for ``pixels``, once they fit into ``most`` with all that others hold; alone, any number does.

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
            if isinstance(raised, TimeoutError):
                raise TooManyPictures(seconds) from None
            raise
        return Held(self, pixels)

    def give(self, pixels: int) -> None:
        """Take room back, from any thread."""
        with self._lock:
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
                self.give(waiter.pixels)
            else:
                self._waiting.remove(waiter)
                self._grant()
