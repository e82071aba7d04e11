"""Text completions on the wire."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from serve.protocol.completions import CompletionEncoder
from serve.protocol.events import Delta, TokenLogprob, TopLogprob, Usage
from tests.unit.protocol.events import Answer, answers, frames


def both(answer: Answer, include_usage: bool = False) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The chunks of a streamed completion, and the whole of it."""
    streamed, whole = CompletionEncoder("m", include_usage), CompletionEncoder("m", include_usage)
    for events in answer:
        whole.add(events)
    chunks = frames(b"".join(streamed.frames(events) for events in answer) + streamed.end())
    return chunks, whole.body()


@given(answers(choices=2))
def test_the_chunks_of_a_stream_add_up_to_the_answer_without_a_stream(answer: Answer) -> None:
    chunks, whole = both(answer)
    for choice in whole["choices"]:
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in mine) == choice["text"]
        assert [piece["finish_reason"] for piece in mine if piece["finish_reason"]] == [choice["finish_reason"]]
        tokens = [token for piece in mine if piece["logprobs"] for token in piece["logprobs"]["tokens"]]
        assert tokens == (choice["logprobs"] or {"tokens": []})["tokens"]


def test_a_completion_has_the_shape_that_openai_gives_it() -> None:
    chunks, whole = both([[Delta(text="a")], [Delta(finish_reason="length"), Usage(4, 1)]])
    assert (whole["object"], whole["model"], whole["id"][:5]) == ("text_completion", "m", "cmpl-")
    assert whole["choices"] == [{"index": 0, "text": "a", "logprobs": None, "finish_reason": "length"}]
    assert whole["usage"]["total_tokens"] == 5
    assert [chunk["object"] for chunk in chunks] == ["text_completion"] * 2
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_is_in_a_last_chunk_without_choices_when_it_was_asked_for() -> None:
    chunks, _ = both([[Delta(text="a"), Usage(4, 1)]], include_usage=True)
    assert [chunk["usage"] and chunk["usage"]["total_tokens"] for chunk in chunks] == [None, 5]
    assert chunks[-1]["choices"] == []


def test_log_probabilities_have_the_older_form_of_this_endpoint() -> None:
    tokens = (TokenLogprob("a", -0.1, b"a", (TopLogprob("a", -0.1, b"a"), TopLogprob("b", -2.0, b"b"))),)
    _, whole = both([[Delta(text="a", logprobs=tokens)], [Delta(text="a", logprobs=tokens)]])
    assert whole["choices"][0]["logprobs"] == {
        "tokens": ["a", "a"],
        "token_logprobs": [-0.1, -0.1],
        "top_logprobs": [{"a": -0.1, "b": -2.0}] * 2,
    }


def test_log_probabilities_may_begin_after_the_first_piece() -> None:
    late = (TokenLogprob("b", -0.2, b"b"),)
    _, whole = both([[Delta(text="a")], [Delta(text="b", logprobs=late)]])
    assert whole["choices"][0]["logprobs"]["tokens"] == ["b"]
