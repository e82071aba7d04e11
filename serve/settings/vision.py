"""The ``user_config`` of the vision task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.settings.base import Settings
from serve.settings.pictures import PictureGrid, PictureLimits


class VisionUserConfig(Settings):
    """Behaviour of the vision task: changes live, with no restart.

    Attributes:
        model: who looks where a request names nobody: an id, ``id:adapter``, or ``auto``, the first model that sees.
        grids: how models see pictures that do not say it themselves, by id: those of ``upstream`` and of families
            other than Qwen's.
        images: most pictures of one request, pages of PDFs included.
        pictures: bounds on each of them.
        max_tokens: of an answer, where a request does not say it.
        parallel: answers that one request waits for at once.
        timeout: seconds that one answer of the model may take.
    """

    model: Annotated[str, Field(min_length=1)] = "auto"
    # Settings are strict, which would want an object here, where a config has a mapping.
    grids: dict[str, Annotated[PictureGrid, Field(strict=False)]] = {}
    images: Annotated[int, Field(ge=1)] = 8
    pictures: PictureLimits = PictureLimits()
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    parallel: Annotated[int, Field(ge=1)] = 4
    timeout: Annotated[float, Field(gt=0)] = 120.0
