"""Pictures as a model sees them, and the way back from there to the caller's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from serve.settings.pictures import PictureGrid

Size = tuple[int, int]

#: Qwen's processors refuse pictures that are longer than so many times their width, or wider than their height.
MAX_RATIO = 200


def smart_size(width: int, height: int, grid: PictureGrid) -> Size:
    """The size at which a model of Qwen's family sees a picture: multiples of the grid's step, as near to the
    picture's own as the bounds on pixels let it be.

    The formula is that of Qwen's own processors (``smart_resize``), so that these leave the result as it is.

    Raises:
        ValueError: one side is over ``MAX_RATIO`` times the other.
    """
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"one side is more than {MAX_RATIO} times the other")
    step, pixels = grid.step, width * height
    wide, high = (round(side / step) * step for side in (width, height))
    if wide * high > grid.max_pixels:
        shrink = math.sqrt(pixels / grid.max_pixels)
        wide, high = (max(step, math.floor(side / shrink / step) * step) for side in (width, height))
    elif wide * high < grid.min_pixels:
        grow = math.sqrt(grid.min_pixels / pixels)
        wide, high = (math.ceil(side * grow / step) * step for side in (width, height))
    return wide, high


@dataclass(frozen=True, slots=True)
class View:
    """How one picture is seen.

    Attributes:
        original: the caller's picture, upright.
        padded: the same with white to its right or below, where it was too narrow for the model.
        seen: what the model gets.
    """

    original: Size
    padded: Size
    seen: Size

    def to_seen(self, x: float, y: float) -> tuple[float, float]:
        """A point of the caller's picture in the model's."""
        return x * self.seen[0] / self.padded[0], y * self.seen[1] / self.padded[1]

    def to_original(self, x: float, y: float) -> tuple[float, float]:
        """A point of the model's picture in the caller's; outside of it where it lies in the padding."""
        return x * self.padded[0] / self.seen[0], y * self.padded[1] / self.seen[1]


def view_of(width: int, height: int, grid: PictureGrid | None) -> View:
    """How a picture of this size is seen; as it is where the model's grid is not known."""
    original = (width, height)
    if grid is None:
        return View(original, original, original)
    least = math.ceil(max(original) / MAX_RATIO)
    padded = (max(width, least), max(height, least))
    return View(original, padded, smart_size(*padded, grid))


def prepare(picture: Image.Image, view: View) -> Image.Image:
    """``picture`` as the model gets it. Takes time: for a thread."""
    if view.padded == view.original:
        return picture if view.seen == picture.size else picture.resize(view.seen, Image.Resampling.BICUBIC)
    # Scaled first: a picture of one pixel by a million would fill the memory if it were padded as it is.
    wide, high = (max(1, round(side)) for side in view.to_seen(*view.original))
    sheet = Image.new("RGB", view.seen, "white")
    sheet.paste(picture.resize((wide, high), Image.Resampling.BICUBIC))
    return sheet
