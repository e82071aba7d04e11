"""Confidence by the probabilities of tokens."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.vision.answers import entries_of
from serve.handlers.vision.confidence import Tokens

OBJECTS = '{"objects": [{"bbox_2d": [10, 200, 3, 4], "label": "Grün 👋"}, {"bbox_2d": [5, 6, 7, 8], "label": "b"}]}'


def written(pieces: list[tuple[bytes, float]]) -> dict[str, Any]:
    """``logprobs`` of a choice, from its tokens and their probabilities."""
    return {
        "content": [
            {
                "token": raw.decode(errors="replace"),
                "bytes": list(raw),
                "logprob": math.log(likely),
                "top_logprobs": [],
            }
            for raw, likely in pieces
        ]
    }


def cut_up(text: str, sizes: list[int]) -> list[bytes]:
    """``text`` in tokens of so many bytes, in turn; characters may be cut."""
    raw = text.encode()
    pieces: list[bytes] = []
    while raw:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(raw[:size])
        raw = raw[size:]
    return pieces


def confidences(text: str, pieces: list[tuple[bytes, float]]) -> list[float | None]:
    tokens = Tokens(text, written(pieces))
    return [tokens.confidence(entry) for entry in entries_of(text)]


def test_names_and_brackets_do_not_count() -> None:
    pieces = [(b'[{"bbox_2d": [', 0.001), (b"1", 0.9), (b",", 0.001), (b"2,", 0.9), (b'3,4], "label": "', 0.9)]
    pieces += [(b"cat", 0.9), (b'"}]', 0.001)]
    assert confidences(b"".join(raw for raw, _ in pieces).decode(), pieces) == [0.9]


def test_each_entry_has_its_own_tokens() -> None:
    first, second = OBJECTS.split(", {")
    pieces = [(raw, 0.5) for raw in cut_up(first, [1])] + [(raw, 0.25) for raw in cut_up(", {" + second, [1])]
    assert confidences(OBJECTS, pieces) == [0.5, 0.25]


def test_it_is_the_geometric_mean() -> None:
    text = '{"point": [1, 3], "label": ""}'
    likely = {b"1": 0.81, b"3": 0.25}
    assert confidences(text, [(raw, likely.get(raw, 0.01)) for raw in cut_up(text, [1])]) == [0.45]


def test_a_thought_before_the_answer_does_not_count() -> None:
    pieces = [(b"<think>I see [1, 2]</think>\n\n", 0.1), *[(raw, 0.5) for raw in cut_up(OBJECTS, [3])]]
    assert confidences(OBJECTS, pieces) == [0.5, 0.5]


def test_nothing_is_known_without_tokens_or_with_those_of_another_text() -> None:
    [entry, _] = entries_of(OBJECTS)
    assert Tokens(OBJECTS, None).confidence(entry) is None
    assert Tokens(OBJECTS, {"content": []}).confidence(entry) is None
    assert Tokens(OBJECTS, written([(b"something else", 0.5)])).confidence(entry) is None


@given(st.lists(st.integers(1, 7), min_size=1), st.lists(st.floats(0.01, 1.0), min_size=1), st.text(max_size=20))
def test_however_a_text_is_cut_into_tokens_it_is_between_their_probabilities(
    sizes: list[int], likely: list[float], label: str
) -> None:
    text = json.dumps([{"bbox_2d": [1, 2, 3, 4], "label": label}], ensure_ascii=False)
    pieces = [(raw, likely[number % len(likely)]) for number, raw in enumerate(cut_up(text, sizes))]
    [confidence] = confidences(text, pieces)
    assert confidence is not None
    assert min(likely) - 1e-4 <= confidence <= max(likely) + 1e-4
