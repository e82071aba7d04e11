"""The ``user_config`` of the vision task."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, TypeAdapter

from serve.settings.base import Settings
from serve.settings.pictures import PictureGrid, PictureLimits


def _as_grid(raw: object) -> object:
    """A mapping as a grid: settings are strict, and want an object where the type is a dataclass."""
    return _GRID.validate_python(raw) if isinstance(raw, dict) else raw


_GRID = TypeAdapter(PictureGrid)
Grid = Annotated[PictureGrid, BeforeValidator(_as_grid)]


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
    grids: dict[str, Grid] = {}
    images: Annotated[int, Field(ge=1)] = 8
    pictures: PictureLimits = PictureLimits()
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    parallel: Annotated[int, Field(ge=1)] = 4
    timeout: Annotated[float, Field(gt=0)] = 120.0
