"""Pictures among a prompt's tokens: positions, what is shared, what is decoded next. Without llama.cpp's models."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.llamacpp.output import OutputForm
from serve.handlers.llamacpp.plan import Plan
from serve.handlers.llamacpp.sequence import Sequence, Stream
from serve.handlers.llamacpp.sight import PromptPicture, grid_of
from serve.handlers.llamacpp.slots import Slot, place
from serve.models.gguf import read_header
from serve.protocol.requests import CompletionRequest
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.settings.engines import LlamaCppEngine
from serve.settings.pictures import PictureGrid
from tests.unit.residency.gguf_files import Value, write_gguf

#: Words and pictures in turn: how many tokens of text, then tokens and positions of a picture.
PARTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 4)), max_size=4)


def sequence(*parts: tuple[int, int, int], mark: int = -1) -> Sequence:
    tokens, pictures = array("i"), []
    for words, length, advance in parts:
        tokens.extend(range(1, words + 1))
        offsets, seen = np.zeros((4, length), np.int32), np.zeros((length, 2), np.float32)
        pictures.append(PromptPicture(len(tokens), length, min(advance, length), offsets, seen))
        tokens.extend([mark] * length)
    tokens.extend((7, 8))
    sampling = resolve(CompletionRequest(model="m", prompt=""), SamplingDefaults())
    return Stream(Plan(tokens, sampling, OutputForm(), pictures=tuple(pictures))).choices[0]


@given(PARTS)
def test_positions_go_on_behind_pictures_and_never_back(parts: list[tuple[int, int, int]]) -> None:
    one = sequence(*parts)
    places = [index for index in range(len(one.tokens) + 1) if one.whole(index) == index]
    positions = [one.position(index) for index in places]
    assert positions == sorted(set(positions)) and positions[0] == 0
    advance = sum(picture.advance for picture in one.pictures)
    assert positions[-1] == sum(token >= 0 for token in one.tokens) + advance


@given(PARTS)
def test_a_prompt_is_read_by_words_and_pictures_in_turn(parts: list[tuple[int, int, int]]) -> None:
    one = sequence(*parts)
    steps = []
    while one.done < len(one.tokens):
        picture = one.picture
        assert (picture is None) == (one.words > 0)
        count = one.words or min(5, picture.end - one.done)  # type: ignore[union-attr]
        assert {token < 0 for token in one.tokens[one.done : one.done + count]} == {picture is not None}
        steps.append(count)
        one.done += count
    assert sum(steps) == len(one.tokens) and one.picture is None and one.words == 0


@given(PARTS, st.data())
def test_a_cut_is_never_within_a_picture(parts: list[tuple[int, int, int]], data: st.DataObject) -> None:
    one = sequence(*parts)
    length = data.draw(st.integers(0, len(one.tokens)))
    whole = one.whole(length)
    assert whole <= length and not any(picture.start < whole < picture.end for picture in one.pictures)
    assert one.whole(whole) == whole


def placed(new: Sequence, cached: array[int]) -> int:
    found = place(new, [Slot(0, None, cached, 1)], shares=True, across_requests=True)
    assert found is not None
    return found.length


def test_what_is_cached_of_a_picture_in_part_is_not_used() -> None:
    old = sequence((3, 10, 4))
    assert placed(sequence((3, 10, 4)), old.tokens) == 14  # all but the last token
    assert placed(sequence((3, 10, 4)), old.tokens[:9]) == 3
    assert placed(sequence((3, 10, 4)), old.tokens[:13]) == 13
    assert placed(sequence((3, 10, 4), mark=-2), old.tokens) == 3


@pytest.mark.parametrize(
    ("kind", "coordinates"),
    [("qwen2vl_merger", "thousandths"), ("qwen2.5vl_merger", "pixels"), ("qwen3vl_merger", "thousandths")],
)
def test_the_grid_is_read_from_the_projectors_file(kind: str, coordinates: str, tmp_path: Path) -> None:
    values: dict[str, Value] = {
        "general.architecture": "clip",
        "clip.projector_type": kind,
        "clip.vision.patch_size": 16,
    }
    header = read_header(write_gguf(tmp_path / "p", values))
    found = grid_of(header, LlamaCppEngine(image_max_tokens=100))
    assert found == PictureGrid(16, 2, 8 * 32 * 32, 100 * 32 * 32, coordinates)  # type: ignore[arg-type]


def test_a_projector_of_another_family_has_no_grid(tmp_path: Path) -> None:
    values: dict[str, Value] = {"general.architecture": "clip", "clip.projector_type": "gemma3"}
    assert grid_of(read_header(write_gguf(tmp_path / "p", values)), LlamaCppEngine()) is None
