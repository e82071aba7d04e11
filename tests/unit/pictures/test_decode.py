"""Files as pictures: formats, orientation, transparency, and what is refused before it is decoded."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from serve.pictures.decode import BadPicture, decode
from serve.settings.pictures import PictureLimits
from tests.pictures import file_of, plain

LIMITS = PictureLimits(file_bytes=200_000, pixels=100_000)


def png_head(width: int, height: int) -> bytes:
    """A PNG that says it is this large, and is nothing else."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    parts = b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, body)
    )
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif"])
def test_every_known_format_is_read(kind: str) -> None:
    found = decode(file_of(plain("red"), kind), LIMITS)
    assert (found.mode, found.size) == ("RGB", (64, 48))
    red, green, blue = found.getpixel((5, 5))  # type: ignore[misc]
    assert red > 240 and green < 15 and blue < 15


def test_heic_is_read_where_its_library_is() -> None:
    pytest.importorskip("pillow_heif")
    found = decode(file_of(plain("blue"), "heif"), LIMITS)
    assert found.size == (64, 48)


def test_a_gif_gives_its_first_frame() -> None:
    content = file_of(plain("red"), "gif", save_all=True, append_images=[plain("blue"), plain("green")])
    assert decode(content, LIMITS).getpixel((1, 1)) == (255, 0, 0)


def test_a_picture_is_turned_as_its_exif_says() -> None:
    picture = plain("white", (40, 20))
    picture.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was held to the right: turn it clockwise.
    found = decode(file_of(picture, "png", exif=exif), LIMITS)
    assert found.size == (20, 40)
    assert found.getpixel((19, 0)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    assert decode(file_of(picture, "png", **options), LIMITS).getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bits_of_grey_become_eight() -> None:
    picture = Image.new("I;16", (4, 4), 0x8000)
    assert decode(file_of(picture), LIMITS).getpixel((0, 0)) == (128, 128, 128)


def test_four_colours_of_print_become_three() -> None:
    assert decode(file_of(Image.new("CMYK", (4, 4)), "jpeg"), LIMITS).mode == "RGB"


def test_a_bomb_is_refused_by_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", explode)
    with pytest.raises(BadPicture, match="60000 x 60000 pixels; the most allowed is 100000"):
        decode(png_head(60_000, 60_000), LIMITS)


def webp_head(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunk = kind + struct.pack("<I", 10) + bytes(4) + size
    elif kind == b"VP8L":
        chunk = kind + struct.pack("<IBI", 5, 0x2F, (width - 1) | (height - 1) << 14)
    else:
        chunk = kind + struct.pack("<I", 10) + bytes(6) + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + chunk + bytes(8)


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_bomb_is_refused_before_its_library_sees_it(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(BadPicture, match="16000 x 12000 pixels"):
        decode(webp_head(kind, 16_000, 12_000), LIMITS)


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\0\0"}], ids=str
)
def test_the_head_of_a_real_webp_is_read_rightly(options: dict[str, object]) -> None:
    content = file_of(plain("red", (317, 203)), "webp", **options)
    assert decode(content, LIMITS).size == (317, 203)
    with pytest.raises(BadPicture, match="317 x 203"):
        decode(content, PictureLimits(pixels=317 * 203 - 1))


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadPicture, match="more than 200000 bytes"):
        decode(bytes(200_001), LIMITS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"hello", "no picture of a known format"),
        (b"%PDF-1.7", "only /v1/vision/analyze"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture of a known format"),
        (file_of(plain(), "bmp"), "no picture of a known format"),
        (file_of(plain(), "png")[:60], "broken or cut off"),
        (file_of(plain(), "jpeg")[:-200], "broken or cut off"),
        (png_head(10, 10), "broken or cut off"),
    ],
    ids=["empty", "text", "pdf", "svg", "bmp", "cut png", "cut jpeg", "png without pixels"],
)
def test_what_is_no_picture_is_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(BadPicture, match=why):
        decode(content, LIMITS)


@given(st.sampled_from(["png", "jpeg", "webp", "gif"]), st.data())
def test_any_damage_is_a_bad_picture_or_a_picture(kind: str, data: st.DataObject) -> None:
    content = bytearray(file_of(plain("red", (16, 16)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(content[: data.draw(st.integers(1, len(content)))]), LIMITS)
    except BadPicture:
        return
    assert found.mode == "RGB" and found.width * found.height <= LIMITS.pixels


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.dictionaries(st.integers(6, 151), st.integers(0, 255), max_size=5))
@example({17: 63})
@example({98: 70})
def test_damaged_exif_data_is_a_bad_picture_or_a_picture(damage: dict[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif[0x8769], exif[0x8825] = {0x9003: "2020"}, {1: "N", 2: (1.0, 2.0, 3.0)}
    raw = bytearray(exif.tobytes())
    for at, value in damage.items():
        raw[at] = value
    try:
        found = decode(file_of(plain("red", (16, 8)), "jpeg", exif=bytes(raw)), LIMITS)
    except BadPicture:
        return
    assert found.size in ((16, 8), (8, 16))
