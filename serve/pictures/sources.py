"""Whatever a request names a picture by, as a decoded picture."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from PIL import Image

from serve.errors import InvalidRequest
from serve.pictures.decode import BadPicture, check_bytes, decode, size_of
from serve.pictures.fetch import PictureFetcher
from serve.pictures.pdf import MAGIC, PdfPages
from serve.pictures.resize import Size, View, prepare, view_of
from serve.pictures.room import Held, PictureRoom, run_in
from serve.settings.pictures import PictureGrid, PictureLimits

T = TypeVar("T")

_DATA = re.compile(r"data:(?:image/[\w.+-]+|application/(?:pdf|octet-stream))?;base64,", re.IGNORECASE)
#: While it is decoded and turned, a picture takes several times what it takes then. PDFs are drawn elsewhere, and a
#: slow one must not keep pictures waiting.
_decoding = ThreadPoolExecutor(2, thread_name_prefix="pictures")
_DRAWN_AT_ONCE = 2
_drawing = ThreadPoolExecutor(_DRAWN_AT_ONCE, thread_name_prefix="pdf")
#: One for each thread that draws: who waits for a turn takes no room from who could work.
_turns = PictureRoom()
#: A PNG over this is sent on as JPEG instead: of photos it would be several times as large.
_PNG_BYTES = 1024 * 1024
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One picture of a request.

    Attributes:
        source: which of the request's sources it is from. page: of a PDF, from 1.
    """

    picture: Image.Image
    source: int
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """Which pages of PDF files are taken.

    Attributes:
        wanted: such as ``1-3,7``; all of them where it is left out.
        most: of one file.
    """

    wanted: str | None
    most: int


class Pictures:
    """Reads pictures within ``limits``, and decodes them in threads.

    Args:
        room: bounds how many pixels are held at once; shared by those who read with changing limits.
    """

    def __init__(self, limits: PictureLimits, room: PictureRoom | None = None) -> None:
        self._limits = limits
        self._fetcher = PictureFetcher(limits)
        self._room = room or PictureRoom()

    async def read(
        self, sources: Sequence[str | bytes], params: Sequence[str], grid: PictureGrid | None = None
    ) -> Held:
        """The pictures, in order, for who needs all of them at once; to be closed when they were worked with.

        They are read one after the other, and each is made what the model sees before the next is decoded. The room
        for that is taken together, so that two requests cannot wait for each other's half, and what is over is given
        back.

        Args:
            sources: data URLs, https addresses, or the files themselves.
            params: the request's field of each, for errors.
            grid: how the model sees pictures; where that is not known, they stay as they are.

        Raises:
            InvalidRequest: the first that cannot be taken, by its place and why.
            TooManyPictures: others hold all the room.
        """
        contents = await _all([self._content(source) for source in sources], params)
        sizes = await _all([self._size(content) for content in contents], params)
        held = await self._take(_most_pixels([view_of(*size, grid) for size in sizes]))
        for place, (content, param) in enumerate(zip(contents, params, strict=True)):
            try:
                held.pictures.append(await run_in(_decoding, partial(self._prepared, content, grid), held))
            except BadPicture as bad:
                raise _refusal(place, bad, param) from None
        held.shrink(sum(_area(picture.size) for picture in held.pictures))
        return held

    async def read_each(
        self,
        sources: Sequence[str | bytes],
        params: Sequence[str],
        keep: Callable[[Found], T],
        pages: Pages | None = None,
    ) -> list[T]:
        """As ``read``, one picture after the other: what ``keep`` makes of each is what is left of it.

        Args:
            keep: called in a thread.
            pages: of PDF files, which are refused where this is left out.
        """
        limits = self._limits
        # What waits for others of its own request must not be told that others hold the room.
        own = asyncio.Semaphore(2 if 2 * limits.pixels <= limits.pixels_at_once else 1)
        work = [self._each(place, source, keep, pages, own) for place, source in enumerate(sources)]
        return [one for found in await _all(work, params) for one in found]

    async def _each(
        self,
        place: int,
        source: str | bytes,
        keep: Callable[[Found], T],
        pages: Pages | None,
        own: asyncio.Semaphore,
    ) -> list[T]:
        content = await self._content(source)
        async with own:
            if pages is not None and content.startswith(MAGIC):
                return await self._drawn(place, content, keep, pages)
            return await self._kept(place, content, keep)

    async def _kept(self, place: int, content: bytes, keep: Callable[[Found], T]) -> list[T]:
        held = await self._take(_area(await self._size(content)))

        def work() -> list[T]:
            with held:
                return [keep(Found(decode(content, self._limits), place))]

        return await run_in(_decoding, work, held)

    async def _drawn(self, place: int, content: bytes, keep: Callable[[Found], T], pages: Pages) -> list[T]:
        """What is kept of a PDF's pages, whose drawing ends when nobody waits for it."""
        limits = self._limits
        turn = await _turns.take(1, most=_DRAWN_AT_ONCE, seconds=limits.wait_seconds)
        try:
            held = await self._take(limits.pixels)
        except BaseException:
            turn.close()
            raise
        drawing = PdfPages(content, pages.wanted, pages.most, limits)

        def work() -> list[T]:
            with turn, held:
                return [keep(Found(page, place, number)) for number, page in drawing.draw()]

        try:
            return await run_in(_drawing, work, turn, held)
        finally:
            drawing.stop()

    async def _content(self, source: str | bytes) -> bytes:
        """The file that ``source`` names."""
        if isinstance(source, bytes):
            check_bytes(len(source), self._limits)
            return source
        if (head := _DATA.match(source)) is not None:
            return await asyncio.to_thread(_decoded, source, head.end(), self._limits)
        if not source.lower().startswith("https://"):
            raise BadPicture("it must be a data URL (data:image/png;base64,...) or an https address")
        return await self._fetcher.fetch(source)

    async def _size(self, content: bytes) -> Size:
        return await run_in(_decoding, partial(size_of, content, self._limits))

    def _prepared(self, content: bytes, grid: PictureGrid | None) -> Image.Image:
        picture = decode(content, self._limits)
        return prepare(picture, view_of(*picture.size, grid))

    async def _take(self, pixels: int) -> Held:
        limits = self._limits
        return await self._room.take(pixels, most=limits.pixels_at_once, seconds=limits.wait_seconds)


def data_url(picture: Image.Image) -> str:
    """A picture as a data URL: a PNG, or a JPEG where that would be large. Takes time: for a thread."""
    file, kind = io.BytesIO(), "png"
    picture.save(file, "PNG", compress_level=1)
    if file.tell() > _PNG_BYTES:
        file, kind = io.BytesIO(), "jpeg"
        picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


async def _all(work: Sequence[Awaitable[T]], params: Sequence[str]) -> list[T]:
    """What all give, in order; the first that fails is told by its place once all have ended."""
    found = await asyncio.gather(*work, return_exceptions=True)
    given: list[T] = []
    for place, (one, param) in enumerate(zip(found, params, strict=True)):
        if isinstance(one, BadPicture):
            raise _refusal(place, one, param)
        if isinstance(one, BaseException):
            raise one
        given.append(one)
    return given


def _refusal(place: int, bad: BadPicture, param: str) -> InvalidRequest:
    return InvalidRequest(f"Picture {place} cannot be taken: {bad}.", param=param, code="invalid_image")


def _most_pixels(views: Sequence[View]) -> int:
    """Pixels that are held at most while pictures are read one by one: those that were, as the model sees them, and
    the next as it is and, where that differs, as it will be."""
    most = kept = 0
    for view in views:
        scaled = 0 if view.seen == view.original else _area(view.seen)
        most = max(most, kept + _area(view.original) + scaled)
        kept += _area(view.seen)
    return most


def _area(size: Size) -> int:
    return size[0] * size[1]


def _decoded(source: str, start: int, limits: PictureLimits) -> bytes:
    check_bytes((len(source) - start) // 4 * 3 - 2, limits)
    try:
        return base64.b64decode("".join(source[start:].split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadPicture("its data URL is not base64") from None
