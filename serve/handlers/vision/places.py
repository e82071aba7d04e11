"""What a model points to, in the caller's own pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from serve.pictures.resize import View
from serve.settings.pictures import PictureGrid

#: Names under which models of Qwen's family and its relatives write these.
_BOXES = ("bbox_2d", "bbox", "box_2d", "box", "bounding_box")
_POINTS = ("point_2d", "point", "click_point", "coordinate", "coordinates")
_LABELS = ("label", "text_content", "text", "name", "description")
_CONFIDENCES = ("confidence", "score")

#: Boxes with the same label that share more than this of their area are one.
_SAME = 0.9
#: Two points with the same label that are no farther apart than this part of the picture are one.
_NEAR = 0.005
#: Digits of a pixel: enough for pictures that are made hundreds of times as large for the model.
_DIGITS = 3

Numbers = tuple[float, ...]
#: An entry of a model's answer, and how sure it was of it by its tokens.
Item = tuple[dict[str, Any], float | None]


@dataclass(frozen=True, slots=True)
class Place:
    """A box or a point in a picture.

    Attributes:
        label: what is there, in the model's words.
        at: left, top, right, bottom of a box, or x and y of a point, in the caller's pixels.
        raw: the same numbers as the model wrote them.
        confidence: 0 to 1, as the model says it, else as its tokens tell; none where neither does.
    """

    label: str
    at: Numbers
    raw: Numbers
    confidence: float | None = None

    @property
    def is_box(self) -> bool:
        """Whether it has an area."""
        return len(self.at) == 4

    @property
    def center(self) -> Numbers:
        """Where to click."""
        if not self.is_box:
            return self.at
        left, top, right, bottom = self.at
        return _rounded(((left + right) / 2, (top + bottom) / 2))


def places_in(items: Iterable[Item], view: View, grid: PictureGrid) -> list[Place]:
    """The places that a model's entries name, in its order: within the picture, none empty, none twice."""
    kept: list[Place] = []
    for item, sure in items:
        place = _place(item, sure, view, grid)
        if place is not None and not any(_same(place, other, view) for other in kept):
            kept.append(place)
    return kept


def _place(item: dict[str, Any], sure: float | None, view: View, grid: PictureGrid) -> Place | None:
    raw = next((numbers for name in _BOXES if (numbers := _numbers(item.get(name), 4))), None)
    raw = raw or next((numbers for name in _POINTS if (numbers := _numbers(item.get(name), 2))), None)
    if raw is None:
        return None
    at: list[float] = []
    for x, y in zip(raw[::2], raw[1::2], strict=True):
        at += view.to_original(*_seen(x, y, view, grid))
    clamped = _clamped(at, view)
    if clamped is None:
        return None
    label = next((str(item[name]) for name in _LABELS if isinstance(item.get(name), str)), "")
    stated = _confidence(item)
    return Place(label, clamped, raw, sure if stated is None else stated)


def _seen(x: float, y: float, view: View, grid: PictureGrid) -> tuple[float, float]:
    """A point in pixels of what the model sees."""
    if grid.coordinates == "pixels":
        return x, y
    return x * view.seen[0] / 1000, y * view.seen[1] / 1000


def _numbers(value: Any, count: int) -> Numbers | None:  # noqa: ANN401 - what the model wrote
    """``count`` finite numbers; a list of points counts as the numbers in them."""
    if isinstance(value, list) and all(isinstance(one, list) for one in value):
        value = [number for one in value for number in one]
    if not isinstance(value, list) or len(value) != count:
        return None
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) <= 1e7:
            return None
    return tuple(value)


def _clamped(at: Sequence[float], view: View) -> Numbers | None:
    """The place within the picture; none where nothing of it is."""
    width, height = view.original
    if len(at) == 2:
        x, y = at
        return _rounded(at) if 0 <= x <= width and 0 <= y <= height else None
    left, right = (min(max(side, 0.0), width) for side in sorted(at[::2]))
    top, bottom = (min(max(side, 0.0), height) for side in sorted(at[1::2]))
    box = _rounded((left, top, right, bottom))
    return box if box[0] < box[2] and box[1] < box[3] else None


def _confidence(item: dict[str, Any]) -> float | None:
    for name in _CONFIDENCES:
        value = item.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
    return None


def _same(one: Place, other: Place, view: View) -> bool:
    if one.label.casefold() != other.label.casefold() or one.is_box != other.is_box:
        return False
    if not one.is_box:
        (x1, y1), (x2, y2) = one.at, other.at
        return abs(x1 - x2) <= _NEAR * view.original[0] and abs(y1 - y2) <= _NEAR * view.original[1]
    return _overlap(one.at, other.at) > _SAME


def _overlap(one: Numbers, other: Numbers) -> float:
    """The area that two boxes share, of the area that they have together."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _rounded(numbers: Iterable[float]) -> Numbers:
    return tuple(round(number, _DIGITS) for number in numbers)
