"""Pages of PDF files, drawn by a process that is bounded and can be ended."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence

import psutil
import pytest
from PIL import Image

from serve.errors import InvalidRequest
from serve.pictures.decode import BadPicture
from serve.pictures.pdf import PdfPages
from serve.pictures.room import PictureRoom
from serve.pictures.sources import Pages, Pictures
from serve.settings.pictures import PictureLimits
from tests.pictures import file_of, plain
from tests.unit.gateway.group import settled

pytest.importorskip("pypdfium2")

LIMITS = PictureLimits(pixels=100_000)


def pdf(*colours: str) -> bytes:
    """A PDF of pages in these colours, of 1 by 2 inches."""
    file = io.BytesIO()
    first, *others = [plain(colour, (72, 144)) for colour in colours]
    first.save(file, "PDF", save_all=True, append_images=others, resolution=72)
    return file.getvalue()


def endless() -> bytes:
    """A PDF of one page that is filled millions of times over: forms that draw each other eight times each."""
    drawn = b"q 0.5 0 0 0.5 1 1 cm /F Do Q " * 8
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Resources<</XObject<</F 5 0 R>>>>/Contents 4 0 R>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(drawn), drawn),
    ]
    for number in range(5, 15):
        body = drawn if number < 14 else b"0 0 m 600 0 300 900 600 600 c 0 600 l f* " * 50
        form = b"<</Type/XObject/Subtype/Form/BBox[0 0 600 600]/Resources<</XObject<</F %d 0 R>>>>/Length %d>>"
        parts.append(form % (number + 1, len(body)) + b"stream\n" + body + b"\nendstream")
    content, places = bytearray(b"%PDF-1.7\n"), []
    for number, part in enumerate(parts, 1):
        places.append(len(content))
        content += b"%d 0 obj" % number + part + b"endobj\n"
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1)
    content += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(content + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(parts) + 1, start))


def drawn(
    content: bytes, wanted: str | None, most: int, limits: PictureLimits = LIMITS
) -> Sequence[tuple[int, Image.Image]]:
    return PdfPages(content, wanted, most, limits).draw()


def children() -> set[int]:
    """The processes that this one started and that live."""
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


def test_pages_are_drawn_upright_and_numbered() -> None:
    both = drawn(pdf("red", "blue"), None, 2)
    assert [number for number, _ in both] == [1, 2]
    assert (both[0][1].size, both[0][1].mode) == ((144, 288), "RGB")
    [(number, second)] = drawn(pdf("red", "blue"), "2", 1)
    red, _, blue = second.getpixel((70, 100))  # type: ignore[misc]
    assert number == 2 and blue > 240 and red < 15


@pytest.mark.parametrize(
    ("content", "wanted", "most", "why"),
    [
        (pdf("red", "blue"), None, 1, "of 2 pages, and at most 1"),
        (pdf("red", "blue"), "2-3", 4, "asks for 2-3"),
        (b"%PDF-1.7 nothing", None, 4, "broken or locked"),
    ],
    ids=["many", "absent", "broken"],
)
def test_what_cannot_be_had_is_refused_with_the_reason(
    content: bytes, wanted: str | None, most: int, why: str
) -> None:
    with pytest.raises(BadPicture, match=why):
        drawn(content, wanted, most)


def test_a_page_thinner_than_a_pixel_is_refused_before_it_is_drawn() -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    document.new_page(100_000_000, 0.001)
    file = io.BytesIO()
    document.save(file)
    with pytest.raises(BadPicture, match="of a shape"):
        drawn(file.getvalue(), None, 4)


def test_a_file_that_takes_too_long_is_ended() -> None:
    before = children()
    began = time.monotonic()
    with pytest.raises(BadPicture, match=r"takes more than 1\.5 s to draw"):
        drawn(endless(), None, 1, PictureLimits(pdf_seconds=1.5))
    assert time.monotonic() - began < 10
    assert children() <= before


def test_a_file_that_takes_too_much_memory_is_refused() -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    document.new_page(8000, 8000)
    file = io.BytesIO()
    document.save(file)
    limits = PictureLimits(pixels=64_000_000, pdf_bytes=256 * 1024 * 1024)
    with pytest.raises(BadPicture, match=r"256 MiB of memory|cannot be drawn"):
        drawn(file.getvalue(), None, 1, limits)


async def test_the_index_of_a_file_that_takes_too_long_is_told() -> None:
    reader = Pictures(PictureLimits(pdf_seconds=5, pdf_bytes=8 * 1024**3))
    with pytest.raises(InvalidRequest, match=r"Picture 1 cannot be taken: it is a PDF that takes more") as refused:
        await reader.read_each([pdf("red"), endless()], ["images[0]", "images[1]"], lambda _: None, Pages(None, 1))
    assert (refused.value.param, refused.value.code) == ("images[1]", "invalid_image")


async def test_drawing_ends_when_nobody_waits_for_it() -> None:
    before = children()
    reader = Pictures(PictureLimits(pdf_seconds=60))
    asking = asyncio.create_task(reader.read_each([endless()], ["a"], lambda _: None, Pages(None, 1)))
    await settled(lambda: children() - before != set())
    asking.cancel()
    await settled(lambda: children() <= before)


async def test_what_is_stopped_before_it_begins_never_begins() -> None:
    pages = PdfPages(pdf("red"), None, 1, LIMITS)
    pages.stop()
    with pytest.raises(BadPicture, match="nobody waits"):
        pages.draw()


async def test_pdfs_that_wait_to_be_drawn_hold_no_room() -> None:
    room = PictureRoom()
    limits = PictureLimits(pixels=100_000, pixels_at_once=400_000, pdf_seconds=2)
    reader = Pictures(limits, room)
    slow = [
        asyncio.create_task(reader.read_each([endless()], ["a"], lambda found: None, Pages(None, 1)))
        for _ in range(4)
    ]
    await settled(lambda: room.used)
    assert room.used == 200_000
    picture = file_of(plain("red"))
    other = Pictures(limits.model_copy(update={"wait_seconds": 0.5}), room)
    assert await other.read_each([picture], ["a"], lambda found: found.picture.size) == [(64, 48)]
    most = 0
    while not all(one.done() for one in slow):
        most = max(most, room.used)
        await asyncio.sleep(0.005)
    assert most == 200_000 and all(isinstance(one.exception(), InvalidRequest) for one in slow)
    await settled(lambda: room.used == 0)


async def test_a_request_does_not_run_out_of_time_waiting_for_its_own_pdfs() -> None:
    limits = PictureLimits(pixels=100_000, pixels_at_once=200_000, wait_seconds=0.02)
    sources: list[str | bytes] = [pdf("red")] * 5
    found = await Pictures(limits).read_each(sources, ["a"] * 5, lambda found: found.source, Pages(None, 1))
    assert found == [0, 1, 2, 3, 4]


async def test_who_leaves_before_its_turn_to_draw_gives_it_back() -> None:
    room = PictureRoom()
    limits = PictureLimits(pixels=100_000, pixels_at_once=100_000)
    reader = Pictures(limits, room)
    sources: list[str | bytes] = [pdf("red")]
    held = await room.take(1000, most=1000, seconds=1)
    leaving = [
        asyncio.create_task(reader.read_each(sources, ["a"], lambda found: None, Pages(None, 1))) for _ in range(4)
    ]
    await asyncio.sleep(0.05)
    for one in leaving:
        one.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    held.close()
    assert await reader.read_each(sources, ["a"], lambda found: found.page, Pages(None, 1)) == [1]
    assert room.used == 0
