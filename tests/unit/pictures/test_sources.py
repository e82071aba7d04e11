"""What requests name pictures by."""

from __future__ import annotations

import asyncio
import base64

import pytest
from PIL import Image

from serve.errors import InvalidRequest, TooManyPictures
from serve.pictures.parts import check_count, image_parts
from serve.pictures.resize import view_of
from serve.pictures.room import PictureRoom
from serve.pictures.sources import Found, Pages, Pictures, data_url
from serve.protocol.requests import ChatRequest
from serve.settings.pictures import PictureGrid, PictureLimits
from tests.pictures import file_of, plain, url_of

LIMITS = PictureLimits(file_bytes=50_000, fetch=False)
RED = file_of(plain("red"))


async def test_data_urls_and_files_are_read_in_order() -> None:
    blue, other = file_of(plain("blue"), "jpeg"), url_of(RED, "application/octet-stream")
    sources: list[str | bytes] = [url_of(RED), blue, other]
    with await Pictures(LIMITS).read(sources, ["a", "b", "c"]) as held:
        colours = [one.getpixel((0, 0)) for one in held.pictures]
    assert colours == [(255, 0, 0), (0, 0, 254), (255, 0, 0)]


async def test_white_space_in_base64_is_nothing() -> None:
    text = base64.encodebytes(RED).decode()
    held = await Pictures(LIMITS).read([f"data:image/png;base64,{text}"], ["a"])
    assert len(held.pictures) == 1


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("data:image/png;base64,%%%", "not base64"),
        ("data:image/png;base64,AAAA", "known format"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64," + "A" * 100_000, "more than 50000 bytes"),
        ("data:text/html;base64,AAAA", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("http://example.com/a.png", "data URL"),
        ("ftp://example.com/a.png", "data URL"),
        ("/etc/passwd", "data URL"),
        ("", "data URL"),
        ("https://example.com/a.png", "send a data URL"),
    ],
)
async def test_a_bad_picture_is_named_by_its_place_and_why(source: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as raised:
        await Pictures(LIMITS).read([url_of(RED), source], ["images[0]", "images[1]"])
    assert raised.value.param == "images[1]" and raised.value.code == "invalid_image"
    assert raised.value.message.startswith("Picture 1 cannot be taken: ")


async def test_a_picture_goes_through_its_data_url_unchanged() -> None:
    picture = plain("#123456", (31, 17))
    [again] = (await Pictures(LIMITS).read([data_url(picture)], ["a"])).pictures
    assert again.tobytes() == picture.tobytes()


def test_the_pictures_of_a_chat_are_found_with_their_places() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "one"}}]
    more = [{"type": "image_url", "image_url": {"url": "two"}}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "user", "content": "b"},
        {"role": "user", "content": more},
    ]
    found = image_parts(ChatRequest.model_validate({"model": "m", "messages": messages}).messages)
    assert found == [("one", "messages[0].content[1]"), ("two", "messages[2].content[0]")]
    check_count(found, 2)
    with pytest.raises(InvalidRequest, match="at most 1 images") as raised:
        check_count(found, 1)
    assert raised.value.param == "messages[2].content[0]"
    with pytest.raises(InvalidRequest, match="cannot see images"):
        check_count(found, 0)


async def test_pictures_that_are_kept_otherwise_leave_no_pixels_behind() -> None:
    room = PictureRoom()
    used: list[int] = []

    def keep(found: Found) -> tuple[int, tuple[int, int]]:
        used.append(room.used)
        return found.source, found.picture.size

    sources: list[str | bytes] = [RED, url_of(file_of(plain("blue", (10, 20))))]
    assert await Pictures(LIMITS, room).read_each(sources, ["a", "b"], keep) == [(0, (64, 48)), (1, (10, 20))]
    assert all(used) and room.used == 0


async def test_pictures_of_one_request_are_held_until_they_were_worked_with() -> None:
    room = PictureRoom()
    with await Pictures(LIMITS, room).read([RED, RED], ["a", "b"]):
        assert room.used == 2 * 64 * 48
    assert room.used == 0
    with pytest.raises(InvalidRequest):
        await Pictures(LIMITS, room).read([RED, RED[:60]], ["a", "b"])
    assert room.used == 0


async def test_pictures_are_made_what_the_model_sees_one_after_the_other() -> None:
    room, grid = PictureRoom(), PictureGrid(14, 2, 28 * 28, 4 * 28 * 28, "pixels")
    wide, high = view_of(1000, 500, grid).seen
    large, small = file_of(plain("red", (1000, 500))), file_of(plain("blue", (28, 28)))
    turned = file_of(plain("red", (1000, 500)), "jpeg", exif=_orientation(6))
    # Never more than what was read, as it is kept, and one picture in full and as it will be.
    most = 1000 * 500 + 3 * wide * high + 28 * 28
    files, places = [large, small, large, turned], ["a", "b", "c", "d"]
    with await room.take(1, most=1, seconds=1):
        with pytest.raises(TooManyPictures):
            await Pictures(PictureLimits(pixels_at_once=most, wait_seconds=0.05), room).read(files, places, grid)
        reader = Pictures(PictureLimits(pixels_at_once=most + 1, wait_seconds=0.05), room)
        with await reader.read(files, places, grid) as held:
            assert [one.size for one in held.pictures] == [(wide, high), (28, 28), (wide, high), (high, wide)]
            assert held.pictures[1].getpixel((0, 0)) == (0, 0, 255)
            assert room.used == 1 + 3 * wide * high + 28 * 28
    assert room.used == 0


async def test_requests_that_fill_the_room_do_not_wait_for_each_others_half() -> None:
    room, grid = PictureRoom(), PictureGrid(14, 2, 28 * 28, 4 * 28 * 28, "pixels")
    wide, high = view_of(280, 140, grid).seen
    large = file_of(plain("red", (280, 140)))
    reader = Pictures(PictureLimits(pixels_at_once=280 * 140 + 4 * wide * high), room)

    async def one() -> int:
        with await reader.read([large] * 3, ["a"] * 3, grid) as held:
            await asyncio.sleep(0.01)
            return len(held.pictures)

    assert await asyncio.wait_for(asyncio.gather(*(one() for _ in range(20))), 20) == [3] * 20
    assert room.used == 0


async def test_who_leaves_while_pictures_are_decoded_has_room_until_that_ends() -> None:
    room = PictureRoom()
    large = file_of(Image.effect_noise((3000, 2000), 60).convert("RGB"), compress_level=1)
    reading = asyncio.create_task(Pictures(PictureLimits(), room).read([large, RED], ["a", "b"]))
    async with asyncio.timeout(20):
        while room.used == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)  # The thread has begun, and decodes for some tenths of a second.
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled() and room.used == 3000 * 2000 + 64 * 48
    async with asyncio.timeout(20):
        while room.used:
            await asyncio.sleep(0.01)


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


async def test_many_requests_at_once_stay_within_the_room() -> None:
    room = PictureRoom()
    limits = PictureLimits(pixels_at_once=2 * 64 * 48)
    most = 0

    def keep(found: Found) -> None:
        nonlocal most
        most = max(most, room.used)

    reader = Pictures(limits, room)
    await asyncio.gather(*(reader.read_each([RED], ["a"], keep) for _ in range(20)))
    assert 0 < most <= limits.pixels_at_once and room.used == 0


async def test_a_request_that_finds_no_room_in_time_is_told_when_to_come_again() -> None:
    room = PictureRoom()
    reader = Pictures(PictureLimits(pixels_at_once=5000, wait_seconds=0.05), room)
    with await reader.read([RED], ["a"]):
        with pytest.raises(TooManyPictures) as refused:
            await reader.read([RED], ["a"])
        assert (refused.value.status, refused.value.retry_after) == (503, 5)
    with await reader.read([RED], ["a"]) as held:
        assert len(held.pictures) == 1


async def test_a_file_that_is_too_large_is_refused_whatever_it_is() -> None:
    with pytest.raises(InvalidRequest, match="more than 50000 bytes"):
        await Pictures(LIMITS).read_each([b"%PDF-" + bytes(50_000)], ["a"], lambda found: found, Pages(None, 1))
