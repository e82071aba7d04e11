"""The way of a chat's pictures to the encoder, which takes one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from PIL import Image

from serve.errors import QueueFull
from serve.handlers.llamacpp.threads import in_own_thread
from serve.pictures.room import PictureRoom
from serve.pictures.sources import Pictures
from serve.settings.pictures import PictureGrid, PictureLimits

T = TypeVar("T")


class PictureQueue:
    """Requests whose pictures are read, wait or are encoded. Its methods are for the event loop.

    A picture is made what the model sees as soon as it is decoded, waits as that for the encoder's turn, and has its
    room until the encoder is done with it. Who leaves while it waits gives turn and room back at once, and who leaves
    later when the encoder comes to the next picture.

    Args:
        name: the model's id, for errors.
        most: requests that may be here.
        room: bounds how many pixels they hold together.
    """

    def __init__(self, name: str, most: int, limits: PictureLimits, room: PictureRoom | None = None) -> None:
        self._name = name
        self._most = most
        self._pictures = Pictures(limits, room)
        self._turns = PictureRoom()  # for one
        self._asking = 0

    async def encode(
        self,
        parts: Sequence[tuple[str, str]],
        grid: PictureGrid | None,
        work: Callable[[Sequence[Image.Image], threading.Event], T],
    ) -> T:
        """What ``work`` makes of a request's pictures, in a thread of its own, when it is this request's turn.

        Args:
            parts: where each picture is, and its field of the request.
            grid: how the model sees pictures; where that is not known, they wait as they are.
            work: gets the pictures, and what is set when nobody waits for it any more.

        Raises:
            QueueFull: there are too many requests.
            InvalidRequest: a picture cannot be taken.
            TooManyPictures: others hold all the room.
        """
        if self._asking >= self._most:
            raise QueueFull(self._name)
        left = threading.Event()
        self._asking += 1
        try:
            held = await self._pictures.read([url for url, _ in parts], [param for _, param in parts], grid)
            try:
                turn = await self._turns.take(1, most=1, seconds=None)
            except BaseException:
                held.close()
                raise

            def turned() -> T:
                with turn, held:
                    return work(held.pictures, left)

            return await in_own_thread(turned, turn, held)
        finally:
            left.set()
            self._asking -= 1
