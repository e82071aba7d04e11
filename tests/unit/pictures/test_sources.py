"""What requests name pictures by."""

from __future__ import annotations

import base64

import pytest

from serve.errors import InvalidRequest
from serve.pictures.parts import check_count, image_parts
from serve.pictures.sources import Pictures, data_url
from serve.protocol.requests import ChatRequest
from serve.settings.pictures import PictureLimits
from tests.pictures import file_of, plain, url_of

LIMITS = PictureLimits(file_bytes=50_000, fetch=False)
RED = file_of(plain("red"))


async def test_data_urls_and_files_are_read_in_order() -> None:
    blue, other = file_of(plain("blue"), "jpeg"), url_of(RED, "application/octet-stream")
    sources: list[str | bytes] = [url_of(RED), blue, other]
    found = await Pictures(LIMITS).read(sources, ["a", "b", "c"])
    assert [one.getpixel((0, 0)) for one in found] == [(255, 0, 0), (0, 0, 254), (255, 0, 0)]


async def test_white_space_in_base64_is_nothing() -> None:
    text = base64.encodebytes(RED).decode()
    assert len(await Pictures(LIMITS).read([f"data:image/png;base64,{text}"], ["a"])) == 1


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
    [again] = await Pictures(LIMITS).read([data_url(picture)], ["a"])
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
