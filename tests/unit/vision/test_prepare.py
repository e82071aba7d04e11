"""Real pictures on their way to the model and back: decoded, turned, scaled, looked at, and told of in the caller's
pixels. What looks at them here is the darkest part of what the model gets."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from serve.handlers.vision.places import places_in
from serve.pictures.decode import decode
from serve.pictures.resize import Size, View, prepare, view_of
from serve.settings.pictures import PictureGrid, PictureLimits
from tests.pictures import file_of

LIMITS = PictureLimits()
GRIDS = st.sampled_from(
    [
        PictureGrid(14, 2, 28 * 28, 196 * 196, "pixels"),
        PictureGrid(14, 2, 3136, 12_845_056, "pixels"),
        PictureGrid(16, 2, 32 * 32, 128 * 128, "thousandths"),
        PictureGrid(16, 2, 65_536, 16_777_216, "thousandths"),
    ]
)
SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300)) | st.sampled_from(
    [(1, 1), (1, 3000), (3000, 1), (2, 900), (900, 2), (4, 2500), (2500, 7), (1, 200), (201, 1), (28, 28), (32, 64)]
)
#: How a file stores a picture that an EXIF orientation turns upright again.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

Box = tuple[int, int, int, int]


@st.composite
def boxes(draw: st.DrawFn, size: Size) -> Box:
    """A box of whole pixels in a picture, which is not empty."""
    width, height = size
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))


def photo(size: Size, box: Box, orientation: int) -> bytes:
    """The file of a white picture with a black box in it, stored as a camera does that was held some way."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="black")
    how = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(picture if how is None else picture.transpose(how), "png", exif=exif)


def looked_at(seen: Image.Image) -> Box | None:
    """Where what the model gets is dark."""
    return seen.convert("L").point(lambda value: 255 * (value < 128)).getbbox()


def said(box: Box, view: View, grid: PictureGrid) -> list[int]:
    """A box in the model's own numbers."""
    if grid.coordinates == "pixels":
        return list(box)
    return [round(side * 1000 / view.seen[number % 2]) for number, side in enumerate(box)]


@settings(max_examples=150)
@given(SIZES, GRIDS, st.sampled_from(sorted(STORED)), st.data())
def test_a_box_in_any_picture_comes_back_within_one_pixel_of_the_models(
    size: Size, grid: PictureGrid, orientation: int, data: st.DataObject
) -> None:
    box = data.draw(boxes(size))
    picture = decode(photo(size, box, orientation), LIMITS)
    assert picture.size == size
    view = view_of(*picture.size, grid)
    seen = prepare(picture, view)
    assert (seen.size, seen.mode) == (view.seen, "RGB")
    corners = [*view.to_seen(box[0], box[1]), *view.to_seen(box[2], box[3])]
    assume(corners[2] - corners[0] >= 2 and corners[3] - corners[1] >= 2)  # else it can hardly be seen
    dark = looked_at(seen)
    assert dark is not None
    raw = said(dark, view, grid)
    assume(raw[0] < raw[2] and raw[1] < raw[3])  # else it is smaller than the model can say
    [place] = places_in([({"bbox_2d": raw, "label": "it"}, None)], view, grid)
    told = [*view.to_seen(*place.at[:2]), *view.to_seen(*place.at[2:])]
    for number, (found, true) in enumerate(zip(told, corners, strict=True)):
        # Half of a thousandth is more than a pixel of a side that has many.
        side = view.seen[number % 2]
        step = max(1.0, 0.5 + side / 2000) if grid.coordinates == "thousandths" else 1.0
        # A pixel that becomes many has soft edges, which are seen a twentieth of it too far out, or in.
        blur = max(0.0, 0.06 * (side / view.padded[number % 2] - 1))
        assert abs(found - true) <= step + blur + 1e-6, (place, corners)
        assert 0 <= place.at[number] <= size[number % 2]


@settings(max_examples=40)
@given(SIZES, GRIDS)
def test_the_whole_of_any_picture_comes_back_as_the_whole(size: Size, grid: PictureGrid) -> None:
    view = view_of(*size, grid)
    dark = looked_at(prepare(Image.new("RGB", size, "black"), view))
    assert dark is not None
    [place] = places_in([({"bbox_2d": said(dark, view, grid), "label": "it"}, None)], view, grid)
    pixel = [padded / seen for padded, seen in zip(view.padded, view.seen, strict=True)]
    thousandth = [padded / 2000 if grid.coordinates == "thousandths" else 0.0 for padded in view.padded]
    for number, true in enumerate((0, 0, *size)):
        side = number % 2
        assert abs(place.at[number] - true) <= pixel[side] + thousandth[side] + 1e-6


def test_a_picture_of_one_pixel_by_a_million_is_scaled_before_it_is_padded() -> None:
    picture = Image.new("RGB", (1, 1_000_000), "black")
    view = view_of(*picture.size, PictureGrid(16, 2, 65_536, 16_777_216, "thousandths"))
    assert view.padded == (5000, 1_000_000)  # which would be 15 GB
    assert prepare(picture, view).size == view.seen
