"""Whole answers pass the check, and any others do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.answers import AnswerCheck, BadAnswer
from serve.protocol.chat import ChatEncoder
from serve.protocol.events import Delta
from serve.protocol.sse import DONE

WORDS = (" one", " two", " drei \u00e4\u2603")
TEXT = "".join(WORDS)


def stream(completion_id: str = "chatcmpl-1") -> bytes:
    encoder = ChatEncoder("echo", 1, include_usage=False, completion_id=completion_id)
    frames = [encoder.frames([Delta(text=word)]) for word in WORDS]
    return b"".join([*frames, encoder.frames([Delta(finish_reason="stop")]), b": usage 1 3 0\n\n", DONE])


def test_a_whole_answer_has_a_frame_for_each_token() -> None:
    assert AnswerCheck(TEXT).frames(stream()) == 3


def test_a_second_answer_with_another_id_passes_too() -> None:
    check = AnswerCheck(TEXT)
    assert check.frames(stream()) == check.frames(stream("chatcmpl-2")) == 3


def test_an_answer_in_another_framing_passes_by_its_text() -> None:
    body = b'data: {"choices":[{"delta":{"content":" one two"}}]}\n\ndata: {"choices":[]}\n\n'
    body += b'data: {"choices":[{"delta":{"content":" drei"},"finish_reason":"stop"}]}\n\n' + DONE
    assert AnswerCheck(" one two drei").frames(body) == 2


@given(st.integers(min_value=0, max_value=len(stream()) - 1))
def test_an_answer_cut_anywhere_fails_even_after_a_whole_one(length: int) -> None:
    check = AnswerCheck(TEXT)
    check.frames(stream())
    with pytest.raises(BadAnswer):
        check.frames(stream()[:length])


def test_a_lost_token_is_named_by_what_is_there() -> None:
    encoder = ChatEncoder("echo", 1, include_usage=False)
    body = encoder.frames([Delta(text=" one")]) + encoder.frames([Delta(finish_reason="stop")]) + DONE
    with pytest.raises(BadAnswer, match="4 of 16 characters in 1 frames"):
        AnswerCheck(TEXT).frames(body)


def test_an_error_frame_is_shown() -> None:
    body = stream().removesuffix(DONE) + b'data: {"error":{"message":"the model was lost"}}\n\n'
    with pytest.raises(BadAnswer, match="the model was lost"):
        AnswerCheck(TEXT).frames(body)


def test_a_stream_without_its_end_mark_fails() -> None:
    with pytest.raises(BadAnswer, match=r"\[DONE\]"):
        AnswerCheck(TEXT).frames(stream().removesuffix(DONE))


def test_a_frame_after_the_end_mark_fails() -> None:
    with pytest.raises(BadAnswer, match="after"):
        AnswerCheck(TEXT).frames(stream() + b'data: {"choices":[]}\n\n')


def test_a_stream_whose_choice_never_finishes_fails() -> None:
    encoder = ChatEncoder("echo", 1, include_usage=False)
    with pytest.raises(BadAnswer, match="finish_reason"):
        AnswerCheck(" one").frames(encoder.frames([Delta(text=" one")]) + DONE)


def test_a_frame_that_is_no_json_fails() -> None:
    with pytest.raises(BadAnswer, match="no JSON"):
        AnswerCheck(TEXT).frames(b"data: {broken\n\n" + DONE)


def test_an_empty_body_fails() -> None:
    with pytest.raises(BadAnswer, match="0 of 16"):
        AnswerCheck(TEXT).frames(b"")
