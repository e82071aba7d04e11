"""Places drawn onto a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from serve.handlers.vision.places import Place
from serve.pictures.resize import Size

#: Told apart by people who do not see all colours (Okabe and Ito's set, without black).
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
#: A picture that is larger is drawn smaller.
_MAX_SIDE = 2048


def sheet_of(picture: Image.Image) -> bytes:
    """What places can be drawn onto later: ``picture`` as a PNG, made smaller where it is large. Takes time: for a
    thread."""
    shrink = _shrink(picture.size)
    size = [max(1, round(side * shrink)) for side in picture.size]
    file = io.BytesIO()
    (picture.resize((size[0], size[1])) if shrink < 1 else picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def annotated(sheet: bytes, original: Size, places: Sequence[Place]) -> str:
    """A sheet with ``places`` on it, each with its number from 0, as a PNG in a data URL. Takes time: for a thread.

    Args:
        original: the size of the picture that the sheet was made of.
    """
    shrink = _shrink(original)
    with Image.open(io.BytesIO(sheet)) as drawn:
        drawn.load()
        _draw(drawn, shrink, places)
        file = io.BytesIO()
        drawn.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shrink(size: Size) -> float:
    return min(1.0, _MAX_SIDE / max(size))


def _draw(drawn: Image.Image, shrink: float, places: Sequence[Place]) -> None:
    size = drawn.size
    pen = ImageDraw.Draw(drawn)
    line = max(2, max(size) // 400)
    font = ImageFont.load_default(size=max(10, max(size) // 60))
    for number, place in enumerate(places):
        colour = _COLOURS[number % len(_COLOURS)]
        at = [side * shrink for side in place.at]
        if place.is_box:
            pen.rectangle(at, outline=colour, width=line)
        else:
            x, y = at
            pen.ellipse((x - 2 * line, y - 2 * line, x + 2 * line, y + 2 * line), outline=colour, width=line)
        corner = (at[0] + line, at[1] + line)
        pen.rectangle(pen.textbbox(corner, str(number), font=font), fill=colour)
        pen.text(corner, str(number), fill="white", font=font)
