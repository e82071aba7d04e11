"""Whatever a request names a picture by, as a decoded picture."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from serve.errors import InvalidRequest
from serve.pictures.decode import BadPicture, check_bytes, decode
from serve.pictures.fetch import PictureFetcher
from serve.pictures.pdf import MAGIC, pages_of
from serve.settings.pictures import PictureLimits

T = TypeVar("T")

_DATA = re.compile(r"data:(?:image/[\w.+-]+|application/(?:pdf|octet-stream))?;base64,", re.IGNORECASE)
#: A decoded picture may have 120 MB.
DECODED_AT_ONCE = 2
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


class Pictures:
    """Reads pictures within ``limits``, and decodes them in threads.

    Args:
        turns: bounds how many are decoded at once; shared by those who read with changing limits.
    """

    def __init__(self, limits: PictureLimits, turns: asyncio.Semaphore | None = None) -> None:
        self._limits = limits
        self._fetcher = PictureFetcher(limits)
        self._turns = turns or asyncio.Semaphore(DECODED_AT_ONCE)

    async def read(self, sources: Sequence[str | bytes], params: Sequence[str]) -> list[Image.Image]:
        """The pictures, in order.

        Args:
            sources: data URLs, https addresses, or the files themselves.
            params: the request's field of each, for errors.

        Raises:
            InvalidRequest: the first that cannot be taken, by its place and why.
        """
        return await self._all(sources, params, lambda _, content: [decode(content, self._limits)])

    async def read_pages(
        self,
        sources: Sequence[str | bytes],
        params: Sequence[str],
        pages: str | None,
        most: int,
        keep: Callable[[Found], T],
    ) -> list[T]:
        """As ``read``, with pages of PDF files among the pictures.

        Args:
            pages: which of a PDF's pages; all where it is left out.
            most: pages of one PDF.
            keep: what is kept of each picture, so that not all need be in memory; called in a thread.
        """

        def drawn(place: int, content: bytes) -> list[T]:
            if not content.startswith(MAGIC):
                return [keep(Found(decode(content, self._limits), place))]
            found = pages_of(content, pages, most, self._limits)
            return [keep(Found(one, place, number)) for number, one in found]

        return await self._all(sources, params, drawn)

    async def _all(
        self, sources: Sequence[str | bytes], params: Sequence[str], made: Callable[[int, bytes], list[T]]
    ) -> list[T]:
        read = (self._read(place, source, made) for place, source in enumerate(sources))
        found = await asyncio.gather(*read, return_exceptions=True)
        pictures: list[T] = []
        for place, (one, param) in enumerate(zip(found, params, strict=True)):
            if isinstance(one, BadPicture):
                raise InvalidRequest(f"Picture {place} cannot be taken: {one}.", param=param, code="invalid_image")
            if isinstance(one, BaseException):
                raise one
            pictures += one
        return pictures

    async def _read(self, place: int, source: str | bytes, made: Callable[[int, bytes], list[T]]) -> list[T]:
        fetched = source
        if isinstance(source, str) and not _DATA.match(source):
            fetched = await self._fetched(source)
        async with self._turns:
            return await asyncio.to_thread(lambda: made(place, self._content(fetched)))

    def _content(self, source: str | bytes) -> bytes:
        if isinstance(source, bytes):
            return source
        head = _DATA.match(source)
        assert head is not None, "addresses are fetched by then"
        return _decoded(source[head.end() :], self._limits)

    async def _fetched(self, url: str) -> bytes:
        if not url.lower().startswith("https://"):
            raise BadPicture("it must be a data URL (data:image/png;base64,...) or an https address")
        return await self._fetcher.fetch(url)


def data_url(picture: Image.Image) -> str:
    """A picture as a data URL: a PNG, or a JPEG where that would be large. Takes time: for a thread."""
    file, kind = io.BytesIO(), "png"
    picture.save(file, "PNG", compress_level=1)
    if file.tell() > _PNG_BYTES:
        file, kind = io.BytesIO(), "jpeg"
        picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _decoded(text: str, limits: PictureLimits) -> bytes:
    check_bytes(len(text) // 4 * 3 - 2, limits)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadPicture("its data URL is not base64") from None
