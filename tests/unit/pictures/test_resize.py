"""Pictures as models see them: Qwen's own sizes, and the way back to the caller's pixels."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serve.handlers.vision.places import places_in
from serve.pictures.resize import MAX_RATIO, prepare, smart_size, view_of
from serve.settings.pictures import PictureGrid
from tests.pictures import plain

#: By the processors of Qwen2.5-VL and Qwen3-VL (preprocessor_config.json of their repositories).
QWEN2_5 = PictureGrid(14, 2, 3136, 12_845_056, "pixels")
QWEN3 = PictureGrid(16, 2, 65_536, 16_777_216, "thousandths")
SMALL = PictureGrid(16, 2, 32 * 32, 128 * 128, "thousandths")
GRIDS = st.sampled_from([QWEN2_5, QWEN3, SMALL])
SIDES = st.integers(1, 6000) | st.sampled_from([1, 2, 13, 27, 28, 29, 199, 200, 201, 1080, 1920, 4032])


@given(SIDES, SIDES, GRIDS)
def test_sizes_are_multiples_within_the_bounds_and_stay_as_they_are(
    width: int, height: int, grid: PictureGrid
) -> None:
    view = view_of(width, height, grid)
    wide, high = view.seen
    assert wide % grid.step == high % grid.step == 0
    assert grid.min_pixels <= wide * high
    # Where one side is a single step already, only the other one can shrink.
    assert wide * high <= grid.max_pixels or min(wide, high) == grid.step
    if max(wide, high) <= MAX_RATIO * min(wide, high) and wide * high <= grid.max_pixels:
        assert smart_size(wide, high, grid) == (wide, high)


def test_a_picture_that_is_too_long_is_padded_and_not_squeezed() -> None:
    view = view_of(4, 3000, QWEN3)
    assert view.padded == (15, 3000)
    assert prepare(plain("red", (4, 3000)), view).size == view.seen
    with pytest.raises(ValueError, match="200 times"):
        smart_size(4, 3000, QWEN3)


def test_a_picture_that_fits_is_not_touched() -> None:
    picture = plain("red", (320, 256))
    assert prepare(picture, view_of(320, 256, QWEN3)) is picture


def test_a_picture_of_an_unknown_model_stays_as_it_is() -> None:
    assert view_of(1, 4000, None).seen == (1, 4000)


@given(SIDES, SIDES, GRIDS, st.data())
def test_any_box_goes_to_the_model_and_back_within_one_of_its_pixels(
    width: int, height: int, grid: PictureGrid, data: st.DataObject
) -> None:
    view = view_of(width, height, grid)
    left, right = sorted(data.draw(st.tuples(*[st.floats(0, width)] * 2)))
    top, bottom = sorted(data.draw(st.tuples(*[st.floats(0, height)] * 2)))
    # What a perfect model says: the corners in its own numbers, which are whole ones.
    corners = [view.to_seen(left, top), view.to_seen(right, bottom)]
    if grid.coordinates == "thousandths":
        corners = [(x * 1000 / view.seen[0], y * 1000 / view.seen[1]) for x, y in corners]
    raw = [round(number) for corner in corners for number in corner]
    found = places_in([({"bbox_2d": raw, "label": "it"}, None)], view, grid)
    assume(raw[0] < raw[2] and raw[1] < raw[3] and found)  # else it is smaller than the model can say
    # One whole number of the model's: a pixel as it sees the picture, or a thousandth of the side.
    step = [1, 1] if grid.coordinates == "pixels" else [max(1.0, side / 1000) for side in view.seen]
    for number, (told, true) in enumerate(zip(found[0].at, (left, top, right, bottom), strict=True)):
        side = number % 2
        back, wanted = view.to_seen(told, told)[side], view.to_seen(true, true)[side]
        assert abs(back - wanted) <= step[side] + 1e-6
        assert 0 <= told <= (width, height)[side]


@given(SIDES, SIDES, GRIDS, st.data())
def test_any_point_goes_there_and_back(width: int, height: int, grid: PictureGrid, data: st.DataObject) -> None:
    view = view_of(width, height, grid)
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    assert view.to_original(*view.to_seen(x, y)) == pytest.approx((x, y))
