"""Boxes, points and lines in the caller's pixels, in both of Qwen's conventions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.vision.places import Place, places_in
from serve.pictures.resize import View, view_of
from serve.settings.pictures import PictureGrid

PIXELS = PictureGrid(14, 2, 3136, 12_845_056, "pixels")
THOUSANDTHS = PictureGrid(16, 2, 65_536, 16_777_216, "thousandths")
#: A screenshot of 1920 x 1080; Qwen2.5-VL sees it as 1932 x 1092, Qwen3-VL as 1920 x 1088.
SCREEN = (1920, 1080)


def found(item: dict[str, Any], grid: PictureGrid = THOUSANDTHS, size: tuple[int, int] = SCREEN) -> list[Place]:
    return places_in([(item, None)], view_of(*size, grid), grid)


def test_thousandths_are_of_width_and_height() -> None:
    [place] = found({"bbox_2d": [500, 250, 750, 500], "label": "button"})
    assert place == Place("button", (960, 270, 1440, 540), (500, 250, 750, 500))
    assert place.center == (1200, 405)


def test_pixels_are_of_what_the_model_sees() -> None:
    view = view_of(*SCREEN, PIXELS)
    assert view.seen == (1932, 1092)
    [place] = found({"bbox_2d": [966, 273, 1932, 1092], "label": "half"}, PIXELS)
    assert place.at == (960, 270, 1920, 1080)


def test_a_place_in_the_padding_is_none_of_the_callers() -> None:
    view = View((10, 1000), (20, 1000), (32, 1600))
    assert places_in([({"bbox_2d": [600, 0, 900, 500]}, None)], view, THOUSANDTHS) == []
    [place] = places_in([({"bbox_2d": [0, 0, 1000, 1000]}, None)], view, THOUSANDTHS)
    assert place.at == (0, 0, 10, 1000)


@pytest.mark.parametrize(
    "item",
    [
        {"bbox_2d": [500, 250, 750, 500], "label": "b"},
        {"bbox": [500, 250, 750, 500], "name": "b"},
        {"bbox_2d": [[500, 250], [750, 500]], "text_content": "b"},
        {"bbox_2d": [750, 500, 500, 250], "label": "b"},
        {"box": [500.0, 250.0, 750.0, 500.0], "text": "b"},
    ],
)
def test_the_names_and_orders_that_models_use_are_known(item: dict[str, Any]) -> None:
    [place] = found(item)
    assert (place.label, place.at) == ("b", (960, 270, 1440, 540))


@pytest.mark.parametrize("name", ["point_2d", "point", "coordinate"])
def test_points_are_read(name: str) -> None:
    [place] = found({name: [500, 500], "label": "p"})
    assert not place.is_box
    assert (place.at, place.center) == ((960, 540), (960, 540))


@pytest.mark.parametrize(
    "numbers",
    [[1, 2, 3], [1, 2, 3, 4, 5], ["1", 2, 3, 4], [True, 0, 1, 1], "1,2,3,4", None, {}, [1e308, 0, 1e309, 1],
     [5, 5, 5, 9], [1100, 0, 1200, 10], [-50, -50, -10, -10]],
)  # fmt: skip
def test_what_is_no_box_of_the_picture_is_dropped(numbers: object) -> None:
    assert found({"bbox_2d": numbers, "label": "b"}) == []


def test_boxes_that_stick_out_are_clamped() -> None:
    [place] = found({"bbox_2d": [-20, 900, 500, 1400], "label": "b"})
    assert (place.at, place.raw) == ((0, 972, 960, 1080), (-20, 900, 500, 1400))


@pytest.mark.parametrize(
    ("said", "known"), [(0.5, 0.5), (1, 1.0), (97, None), ("high", None), (True, None), (-1, None)]
)
def test_confidence_is_what_the_model_says_of_it(said: object, known: float | None) -> None:
    [place] = found({"bbox_2d": [0, 0, 10, 10], "label": "b", "confidence": said})
    assert place.confidence == known


def test_confidence_is_what_the_tokens_tell_where_the_model_says_none() -> None:
    view = view_of(*SCREEN, THOUSANDTHS)
    items: list[dict[str, Any]] = [{"bbox_2d": [0, 0, 10, 10], "label": "a"}, {"bbox_2d": [0, 0, 9, 9], "score": 0.5}]
    kept = places_in([(item, 0.75) for item in items], view, THOUSANDTHS)
    assert [place.confidence for place in kept] == [0.75, 0.5]


def test_the_same_twice_is_one_and_the_order_stays() -> None:
    items = [
        {"bbox_2d": [0, 0, 100, 100], "label": "Cat"},
        {"bbox_2d": [500, 500, 600, 600], "label": "cat"},
        {"bbox_2d": [1, 0, 100, 101], "label": "cat"},
        {"bbox_2d": [0, 0, 100, 100], "label": "dog"},
        {"point_2d": [50, 50], "label": "cat"},
        {"point_2d": [52, 51], "label": "cat"},
    ]
    kept = places_in([(item, None) for item in items], view_of(*SCREEN, THOUSANDTHS), THOUSANDTHS)
    assert [(place.label, place.raw[0]) for place in kept] == [("Cat", 0), ("cat", 500), ("dog", 0), ("cat", 50)]


@given(st.lists(st.fixed_dictionaries({"bbox_2d": st.lists(st.integers(-2000, 3000), min_size=4, max_size=4)})))
def test_every_box_is_within_the_picture_and_has_an_area(items: list[dict[str, Any]]) -> None:
    for place in places_in([(item, None) for item in items], view_of(*SCREEN, THOUSANDTHS), THOUSANDTHS):
        left, top, right, bottom = place.at
        assert 0 <= left < right <= 1920 and 0 <= top < bottom <= 1080
