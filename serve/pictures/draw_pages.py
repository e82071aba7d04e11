"""A program that draws pages of a PDF file: PDFium in a process of its own, which can be killed.

``serve.pictures.pdf`` runs it by its path, so it imports nothing of this package. The file comes on its standard
input, what is wanted as arguments; pages go out one by one, each with a head of four numbers: what follows, the
page's number, width and height. Then come its RGB bytes, or the words of a refusal, which ends it.
"""

from __future__ import annotations

import math
import resource
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

#: Kind, number, width or length, height.
HEAD = struct.Struct(">IIII")
PAGE, REFUSAL, END = range(3)
#: Pixels a point of 1/72 inch: 144 dots an inch, at which small print can be read.
_SCALE = 2.0


class Refused(Exception):
    """The file cannot be drawn; the message says why, in words for the client."""


def main() -> None:
    """Draw what the arguments say: which pages, how many at most, pixels of each, seconds, bytes of memory."""
    wanted, most, pixels, seconds, memory = sys.argv[1:]
    _limit(int(seconds), int(memory))
    out = sys.stdout.buffer
    try:
        _draw(sys.stdin.buffer.read(), wanted, int(most), float(pixels), out)
    except Refused as refused:
        words = str(refused).encode()
        out.write(HEAD.pack(REFUSAL, 0, len(words), 0) + words)
    else:
        out.write(HEAD.pack(END, 0, 0, 0))
    out.flush()


def _limit(seconds: int, memory: int) -> None:
    """Bound this process: the kernel ends it by a signal, or refuses it memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # Others refuse it, or do not heed it.
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _draw(content: bytes, wanted: str, most: int, pixels: float, out: BinaryIO) -> None:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError:
        raise Refused("it is a PDF that is broken or locked") from None
    for number in _numbers(wanted, len(document), most):
        try:
            picture = _page(document[number - 1], pixels)
        except pypdfium2.PdfiumError:
            raise Refused("it is a PDF with a page that cannot be drawn") from None
        out.write(HEAD.pack(PAGE, number, *picture.size))
        out.write(picture.tobytes())


def _page(page: Any, pixels: float) -> Any:  # noqa: ANN401 - pypdfium2 has no types
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise Refused("it is a PDF with a page of no size")
    scale = min(_SCALE, math.sqrt(pixels / (width * height)))
    # PDFium rounds each side up, which makes a long strip of what is thinner than a pixel.
    if math.ceil(width * scale) * math.ceil(height * scale) > 2 * pixels:
        raise Refused("it is a PDF with a page of a shape that cannot be drawn")
    drawn = page.render(scale=scale).to_pil()
    return drawn if drawn.mode == "RGB" else drawn.convert("RGB")


def _numbers(wanted: str, count: int, most: int) -> Sequence[int]:
    numbers: list[int] = []
    for part in (wanted or f"1-{count}").split(","):
        first, _, last = part.partition("-")
        begin, end = int(first), int(last or first)
        if not 1 <= begin <= end <= count:
            raise Refused(f"it is a PDF of {count} pages, and pages asks for {part}")
        if len(numbers) + end - begin >= most:
            raise Refused(f"it is a PDF of {count} pages, and at most {most} are taken; say which with pages")
        numbers += range(begin, end + 1)
    return numbers


if __name__ == "__main__":
    main()
