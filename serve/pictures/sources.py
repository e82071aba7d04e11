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
from serve.pictures.decode import BadPicture, check_bytes, decode, pixels_of
from serve.pictures.fetch import PictureFetcher
from serve.pictures.pdf import MAGIC, PdfPages
from serve.pictures.room import Held, PictureRoom
from serve.settings.pictures import PictureLimits

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

    async def read(self, sources: Sequence[str | bytes], params: Sequence[str]) -> Held:
        """The pictures, in order, for who needs all of them at once; to be closed when they were worked with.

        Args:
            sources: data URLs, https addresses, or the files themselves.
            params: the request's field of each, for errors.

        Raises:
            InvalidRequest: the first that cannot be taken, by its place and why.
            TooManyPictures: others hold all the room.
        """
        contents = await _all([self._content(source) for source in sources], params)
        pixels = await _all([self._pixels(content) for content in contents], params)
        held = await self._take(sum(pixels))
        try:
            work = [_run(_decoding, partial(decode, content, self._limits)) for content in contents]
            held.pictures += await _all(work, params)
        except BaseException:
            held.close()
            raise
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
        held = await self._take(await self._pixels(content))

        def work() -> list[T]:
            with held:
                return [keep(Found(decode(content, self._limits), place))]

        return await _run(_decoding, work)

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
            return await _run(_drawing, work)
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

    async def _pixels(self, content: bytes) -> int:
        return await _run(_decoding, partial(pixels_of, content, self._limits))

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
            raise InvalidRequest(f"Picture {place} cannot be taken: {one}.", param=param, code="invalid_image")
        if isinstance(one, BaseException):
            raise one
        given.append(one)
    return given


async def _run(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


def _decoded(source: str, start: int, limits: PictureLimits) -> bytes:
    check_bytes((len(source) - start) // 4 * 3 - 2, limits)
    try:
        return base64.b64decode("".join(source[start:].split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadPicture("its data URL is not base64") from None
