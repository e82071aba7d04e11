"""How large the pictures of a request may be, how they are fetched, and how models see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from serve.settings.base import Settings


class PictureLimits(Settings):
    """Bounds on the pictures of requests.

    Attributes:
        file_bytes: largest file of a picture, fetched, uploaded or in a data URL.
        pixels: most pixels of a picture, known from its head before it is decoded.
        fetch: whether pictures are fetched from https addresses.
        fetch_seconds: how long one fetch may take, redirects included.
        redirects: how many of them a fetch follows.
        pdf_seconds, pdf_bytes: what drawing the pages of one PDF may take, of time and of memory.
        pixels_at_once: most pixels of decoded pictures in one replica, of all requests together.
        wait_seconds: how long a request waits until the pictures of others have made room, or their PDFs are drawn.
    """

    file_bytes: Annotated[int, Field(ge=1024)] = 20 * 1024 * 1024
    pixels: Annotated[int, Field(ge=1024)] = 40_000_000
    fetch: bool = True
    fetch_seconds: Annotated[float, Field(gt=0)] = 10.0
    redirects: Annotated[int, Field(ge=0, le=10)] = 3
    pdf_seconds: Annotated[float, Field(gt=0)] = 20.0
    pdf_bytes: Annotated[int, Field(ge=256 * 1024 * 1024)] = 1024 * 1024 * 1024
    pixels_at_once: Annotated[int, Field(ge=1024)] = 160_000_000
    wait_seconds: Annotated[float, Field(gt=0)] = 30.0


@dataclass(frozen=True, slots=True)
class PictureGrid:
    """How a model divides a picture, and in which numbers it points into one. Plain data, which crosses processes.

    Attributes:
        patch: pixels along the side of a patch. merge: patches along the side of what becomes one token.
        min_pixels, max_pixels: of a picture as the model sees it; others are scaled.
        coordinates: ``pixels`` of the picture as the model sees it, or ``thousandths`` of its width and height.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    patch: Annotated[int, Field(ge=1, strict=True)]
    merge: Annotated[int, Field(ge=1, strict=True)]
    min_pixels: Annotated[int, Field(ge=1, strict=True)]
    max_pixels: Annotated[int, Field(ge=1, strict=True)]
    coordinates: Literal["pixels", "thousandths"]

    @property
    def step(self) -> int:
        """What width and height of a picture are multiples of, as the model sees it."""
        return self.patch * self.merge
