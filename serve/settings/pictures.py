"""How large and how many the pictures of a request may be, and how they are fetched."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.settings.base import Settings


class PictureLimits(Settings):
    """Bounds on the pictures of one request.

    Attributes:
        file_bytes: largest file of a picture, fetched, uploaded or in a data URL.
        pixels: most pixels of a picture, known from its head before it is decoded.
        fetch: whether pictures are fetched from https addresses.
        fetch_seconds: how long one fetch may take, redirects included.
        redirects: how many of them a fetch follows.
    """

    file_bytes: Annotated[int, Field(ge=1024)] = 20 * 1024 * 1024
    pixels: Annotated[int, Field(ge=1024)] = 40_000_000
    fetch: bool = True
    fetch_seconds: Annotated[float, Field(gt=0)] = 10.0
    redirects: Annotated[int, Field(ge=0, le=10)] = 3
