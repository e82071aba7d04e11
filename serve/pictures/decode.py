"""Files of pictures as upright RGB pictures. Sizes are checked before anything is decoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, UnidentifiedImageError

from serve.settings.pictures import PictureLimits

#: Pillow's names of what is read. A GIF gives its first frame.
_FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]
_SHOWN = "PNG, JPEG, WebP, GIF"
#: Brands of ISO media files that hold a HEIF picture.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
#: Modes of Pillow that hold 16 bits a pixel.
_DEEP = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})

#: EXIF's orientations, and what turns a picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

try:
    from pillow_heif import register_heif_opener
except ImportError:
    _HEIF = False
else:
    register_heif_opener(thumbnails=False)
    _HEIF = True

# What Pillow only warns of is refused here, by the limit of the settings.
Image.MAX_IMAGE_PIXELS = None


class BadPicture(Exception):
    """A picture cannot be taken; the message says why, in words for the client."""


def decode(content: bytes, limits: PictureLimits) -> Image.Image:
    """The picture in a file: turned as its EXIF orientation says, transparency on white, mode RGB. Takes time: for a
    thread.

    Raises:
        BadPicture: it is too large, of another format, or broken.
    """
    with _opened(content, limits) as opened:
        opened.load()
        return _flat(_upright(opened))


def size_of(content: bytes, limits: PictureLimits) -> tuple[int, int]:
    """Width and height of the picture in a file, by its head and before it is turned as its EXIF orientation says.

    Raises:
        BadPicture: as ``decode``, as far as the head tells.
    """
    if size := _webp_size(content):
        _check_pixels(*size, limits)
        return size
    with _opened(content, limits) as opened:
        return opened.size


@contextmanager
def _opened(content: bytes, limits: PictureLimits) -> Iterator[Image.Image]:
    """The picture in a file, whose head has been read; what is wrong with it, then or later, is a ``BadPicture``."""
    if not content:
        raise BadPicture("it is empty")
    check_bytes(len(content), limits)
    if content.startswith(b"%PDF-"):
        raise BadPicture("it is a PDF; only /v1/vision/analyze takes its pages")
    if size := _webp_size(content):
        _check_pixels(*size, limits)
    formats = list(_FORMATS)
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        if not _HEIF:
            raise BadPicture("HEIC is not read here; install the extra 'pictures', or send PNG, JPEG or WebP")
        formats = ["HEIF"]
    try:
        with Image.open(io.BytesIO(content), formats=formats) as opened:
            _check_pixels(*opened.size, limits)
            yield opened
    except BadPicture:
        raise
    except UnidentifiedImageError:
        raise BadPicture(f"it is no picture of a known format ({_SHOWN})") from None
    # Pillow's readers raise these for files that are cut off or wrong, and SyntaxError for broken PNGs.
    except (OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, OverflowError, MemoryError):
        raise BadPicture("it is broken or cut off") from None


def check_bytes(size: int, limits: PictureLimits) -> None:
    """See that a file of ``size`` bytes may be taken.

    Raises:
        BadPicture: it may not.
    """
    if size > limits.file_bytes:
        raise BadPicture(f"it has more than {limits.file_bytes} bytes, the most allowed")


def _check_pixels(width: int, height: int, limits: PictureLimits) -> None:
    if width * height > limits.pixels:
        raise BadPicture(f"it has {width} x {height} pixels; the most allowed is {limits.pixels} together")
    if not width or not height:
        raise BadPicture("it has no pixels")


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """A WebP's size by its head, because Pillow sets the whole canvas aside when it opens one
    (https://developers.google.com/speed/webp/docs/riff_container)."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return None
    kind = content[12:16]
    if kind == b"VP8X":
        return _number(content[24:27]) + 1, _number(content[27:30]) + 1
    if kind == b"VP8L":
        bits = _number(content[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _number(content[26:28]) & 0x3FFF, _number(content[28:30]) & 0x3FFF


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _upright(picture: Image.Image) -> Image.Image:
    """``picture`` turned as its EXIF orientation says. Pillow's own function copies what has not to be turned, and
    writes all of the EXIF data anew, which can be broken."""
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _flat(picture: Image.Image) -> Image.Image:
    """``picture`` in RGB, on white where it is transparent."""
    if picture.mode in _DEEP:
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return picture.convert("RGB")
