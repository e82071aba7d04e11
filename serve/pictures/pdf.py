"""Pages of PDF files as pictures."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

from PIL import Image

from serve.pictures.decode import BadPicture
from serve.settings.pictures import PictureLimits

MAGIC = b"%PDF-"
#: Pixels a point of 1/72 inch: 144 dots an inch, at which small print can be read.
_SCALE = 2.0

# PDFium is for one thread at a time.
_one_at_a_time = threading.Lock()


def pages_of(content: bytes, wanted: str | None, most: int, limits: PictureLimits) -> list[tuple[int, Image.Image]]:
    """Pages of a PDF file with their numbers, from 1. Takes time: for a thread.

    Args:
        wanted: such as ``1-3,7``; all of them where it is left out.
        most: pages that may be taken.

    Raises:
        BadPicture: it cannot be read, or has too many pages, or not those that are wanted.
    """
    try:
        import pypdfium2
    except ImportError:
        raise BadPicture(
            "PDF is not read here; install the extra 'pictures', or send pictures of its pages"
        ) from None
    with _one_at_a_time:
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError:
            raise BadPicture("it is a PDF that is broken or locked") from None
        try:
            numbers = _numbers(wanted, len(document), most)
            # All of them together have no more pixels than one picture may.
            return [(number, _page(document[number - 1], limits.pixels / most)) for number in numbers]
        except pypdfium2.PdfiumError:
            raise BadPicture("it is a PDF with a page that cannot be drawn") from None
        finally:
            document.close()


def _page(page: object, pixels: float) -> Image.Image:
    width, height = page.get_size()  # type: ignore[attr-defined]  # pypdfium2 has no types
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise BadPicture("it is a PDF with a page of no size")
    scale = min(_SCALE, math.sqrt(pixels / (width * height)))
    # PDFium rounds each side up, which makes a long strip of what is thinner than a pixel.
    if math.ceil(width * scale) * math.ceil(height * scale) > 2 * pixels:
        raise BadPicture("it is a PDF with a page of a shape that cannot be drawn")
    drawn: Image.Image = page.render(scale=scale).to_pil()  # type: ignore[attr-defined]
    return drawn.convert("RGB")


def _numbers(wanted: str | None, count: int, most: int) -> Sequence[int]:
    numbers: list[int] = []
    for part in (wanted or f"1-{count}").split(","):
        first, _, last = part.partition("-")
        begin, end = int(first), int(last or first)
        if not 1 <= begin <= end <= count:
            raise BadPicture(f"it is a PDF of {count} pages, and pages asks for {part}")
        if len(numbers) + end - begin >= most:
            raise BadPicture(f"it is a PDF of {count} pages, and at most {most} are taken; say which with pages")
        numbers += range(begin, end + 1)
    return numbers
