"""Whatever a request names a picture by, as a decoded picture."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from collections.abc import Sequence

from PIL import Image

from serve.errors import InvalidRequest
from serve.pictures.decode import BadPicture, check_bytes, decode
from serve.pictures.fetch import PictureFetcher
from serve.settings.pictures import PictureLimits

_DATA = re.compile(r"data:(?:image/[\w.+-]+|application/octet-stream)?;base64,", re.IGNORECASE)
#: Files over this are sent on as JPEG, whose loss at this quality no model was seen to mind.
_PNG_BYTES = 4 * 1024 * 1024
_JPEG_QUALITY = 95


class Pictures:
    """Reads pictures within ``limits``; decodes in threads, at most ``parallel`` at once.

    Args:
        fetcher: gets what lies at an https address; one with the same limits where it is left out.
    """

    def __init__(self, limits: PictureLimits, *, fetcher: PictureFetcher | None = None, parallel: int = 2) -> None:
        self._limits = limits
        self._fetcher = fetcher or PictureFetcher(limits)
        self._turns = asyncio.Semaphore(parallel)

    async def read(self, sources: Sequence[str | bytes], params: Sequence[str]) -> list[Image.Image]:
        """The pictures, in order.

        Args:
            sources: data URLs, https addresses, or the files themselves.
            params: the request's field of each, for errors.

        Raises:
            InvalidRequest: the first that cannot be taken, by its place and why.
        """
        read = (self._read(source) for source in sources)
        found = await asyncio.gather(*read, return_exceptions=True)
        pictures: list[Image.Image] = []
        for place, (one, param) in enumerate(zip(found, params, strict=True)):
            if isinstance(one, BadPicture):
                raise InvalidRequest(f"Picture {place} cannot be taken: {one}.", param=param, code="invalid_image")
            if isinstance(one, BaseException):
                raise one
            pictures.append(one)
        return pictures

    async def _read(self, source: str | bytes) -> Image.Image:
        if isinstance(source, str):
            data = _DATA.match(source)
            content = _decoded(source[data.end() :], self._limits) if data else await self._fetched(source)
        else:
            content = source
        async with self._turns:
            return await asyncio.to_thread(decode, content, self._limits)

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
