"""What the token-counting client makes of the answers that it gets."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.answers import BadAnswer
from benchmarks.report import verdict
from benchmarks.spread import Spread
from benchmarks.streams import Answer, summed_up, tokens_in


def stream(*events: object, done: bool = True) -> bytes:
    frames = [b"data: " + orjson.dumps(event) + b"\n\n" for event in events]
    return b"".join(frames) + (b"data: [DONE]\n\n" if done else b"")


def test_tokens_are_what_the_usage_says_and_not_the_number_of_frames() -> None:
    content = {"choices": [{"delta": {"content": "two tokens"}}]}
    assert tokens_in(stream(content, {"choices": [], "usage": {"completion_tokens": 2}})) == 2


def test_an_answer_without_an_end_fails_the_measurement() -> None:
    with pytest.raises(BadAnswer, match="DONE"):
        tokens_in(stream({"choices": [{"delta": {"content": "a"}}]}, done=False))


def test_without_usage_every_frame_with_content_is_a_token() -> None:
    events = [
        {"choices": [{"delta": delta}]} for delta in ({"role": "assistant"}, {"content": "a"}, {"content": "b"})
    ]
    assert tokens_in(stream(*events)) == 2


def test_an_answer_without_content_fails_the_measurement() -> None:
    with pytest.raises(BadAnswer, match="no content"):
        tokens_in(stream({"choices": [{"delta": {}}]}))


def test_an_error_in_the_stream_fails_the_measurement() -> None:
    with pytest.raises(BadAnswer, match="lost"):
        tokens_in(stream({"error": {"message": "lost"}}))


def test_an_answer_counts_with_its_share_inside_the_measured_time() -> None:
    half_inside = Answer(begun=-2.0, arrivals=[-1.0, 0.0, 1.0], tokens=10)
    sample = summed_up([half_inside, Answer(0.0, [0.5, 1.0], 4)], start=0.0, end=2.0)
    assert sample.tokens_per_second == (5 + 4) / 2
    assert sample.answers == 2


def test_an_answer_that_came_at_once_counts_where_it_came() -> None:
    assert summed_up([Answer(0.0, [0.5], 3)], start=0.0, end=1.0).tokens_per_second == 3


def test_first_tokens_and_gaps_are_in_milliseconds() -> None:
    sample = summed_up([Answer(0.0, [0.1, 0.2, 0.5], 3), Answer(0.0, [0.3, 0.4], 2)], start=0.0, end=1.0)
    assert sample.first_token_p50 == pytest.approx(100)
    assert sample.gap_p50 == pytest.approx(100)
    assert sample.gap_most == pytest.approx(300)


def test_no_answer_in_the_measured_time_fails_the_measurement() -> None:
    with pytest.raises(BadAnswer, match="no answer"):
        summed_up([Answer(0.0, [0.1], 1)], start=1.0, end=2.0)


def test_a_bar_is_met_by_the_median() -> None:
    spread = Spread(median=0.96, least=0.5, most=1.2)
    assert verdict("x", spread, at_least=0.95)[-1] == "met"
    assert verdict("x", spread, at_least=0.97)[-1] == "missed"
    assert verdict("x", spread, at_most=0.9)[-2:] == ["at most 0.9", "missed"]
