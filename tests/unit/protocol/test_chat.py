"""Chat completions on the wire."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve.protocol.chat import ChatCollector, ChatEncoder, JoinedChoices, usage_body
from serve.protocol.events import Delta, TokenLogprob, ToolCallDelta, TopLogprob, Usage
from tests.unit.protocol.events import Answer, answers, frames


def encoded(answer: Answer, choices: int = 1, include_usage: bool = False) -> list[dict[str, Any]]:
    """The chunks of a streamed answer."""
    encoder = ChatEncoder("m", choices, include_usage)
    stream = b"".join(encoder.frames(events) for events in answer) + encoder.end()
    return frames(stream)


def collected(answer: Answer) -> dict[str, Any]:
    """The same answer as one object."""
    collector = ChatCollector("m")
    for events in answer:
        collector.add(events)
    return collector.body()


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), answers(choices=n))))
def test_the_chunks_of_a_stream_add_up_to_the_answer_without_a_stream(case: tuple[int, Answer]) -> None:
    choices, answer = case
    joined = JoinedChoices()
    for chunk in encoded(answer, choices):
        joined.add(chunk["choices"])
    assert joined.finished() == collected(answer)["choices"]


@given(answers(choices=2))
def test_every_chunk_has_the_head_that_openai_gives_it(answer: Answer) -> None:
    chunks = encoded(answer, choices=2)
    assert len({chunk["id"] for chunk in chunks}) == 1 and chunks[0]["id"].startswith("chatcmpl-")
    for chunk in chunks:
        assert set(chunk) == {"id", "object", "created", "model", "choices"}
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", "m")
        (choice,) = chunk["choices"]
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}


def test_the_role_of_every_choice_comes_first_and_once() -> None:
    chunks = encoded([[Delta(1, "b")], [Delta(0, "a")]], choices=2)
    roles = [chunk["choices"][0] for chunk in chunks if "role" in chunk["choices"][0]["delta"]]
    assert [choice["index"] for choice in roles] == [0, 1]
    assert [choice["delta"] for choice in roles] == [{"role": "assistant", "content": ""}] * 2
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1, 1, 0]


def test_usage_is_in_a_last_chunk_without_choices_and_null_before_when_it_was_asked_for() -> None:
    chunks = encoded([[Delta(text="a")], [Delta(finish_reason="stop"), Usage(3, 2, 1)]], include_usage=True)
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 3
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == usage_body(Usage(3, 2, 1))


def test_usage_is_not_in_a_stream_that_did_not_ask() -> None:
    assert all("usage" not in chunk for chunk in encoded([[Delta(text="a"), Usage(1, 1)]]))


def test_an_answer_without_a_stream_has_its_usage() -> None:
    body = collected([[Delta(text="a"), Usage(3, 2, 1)]])
    assert body["object"] == "chat.completion"
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


def test_a_tool_call_is_put_together_from_its_pieces() -> None:
    pieces = (
        ToolCallDelta(0, "call_1", "weather", ""),
        ToolCallDelta(1, "call_2", "time"),
        ToolCallDelta(0, arguments='{"city":'),
        ToolCallDelta(0, arguments='"Paris"}'),
    )
    answer: Answer = [[Delta(tool_calls=(piece,))] for piece in pieces]
    answer.append([Delta(finish_reason="tool_calls")])
    (choice,) = collected(answer)["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
        ],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_only_the_first_piece_of_a_tool_call_carries_its_id_name_and_type() -> None:
    answer: Answer = [
        [Delta(tool_calls=(ToolCallDelta(0, "c", "f"),))],
        [Delta(tool_calls=(ToolCallDelta(0, None),))],
    ]
    calls = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in encoded(answer)]
    assert calls == [
        None,
        [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": ""}}],
    ]


def test_text_beside_a_tool_call_is_kept() -> None:
    (choice,) = collected([[Delta(text="Let me see.", tool_calls=(ToolCallDelta(0, "c", "f"),))]])["choices"]
    assert choice["message"]["content"] == "Let me see."


def test_an_empty_answer_is_an_empty_text_and_not_null() -> None:
    (choice,) = collected([[Delta(finish_reason="stop"), Usage(1, 0)]])["choices"]
    assert choice["message"] == {"role": "assistant", "content": ""}


def test_reasoning_is_kept_apart_from_the_answer() -> None:
    (choice,) = collected([[Delta(reasoning="hm")], [Delta(reasoning="m", text="yes")]])["choices"]
    assert choice["message"] == {"role": "assistant", "content": "yes", "reasoning_content": "hmm"}


def test_log_probabilities_keep_the_bytes_of_half_a_character() -> None:
    half = TokenLogprob("\ufffd", -0.5, b"\xe4\xbd", (TopLogprob("a", -1.0, b"a"),))
    (choice,) = collected([[Delta(text="", logprobs=(half,))], [Delta(logprobs=())]])["choices"]
    assert choice["logprobs"] == {
        "content": [
            {
                "token": "\ufffd",
                "logprob": -0.5,
                "bytes": [0xE4, 0xBD],
                "top_logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}],
            }
        ],
        "refusal": None,
    }


def test_choices_come_in_order_whichever_began_first() -> None:
    assert [one["index"] for one in collected([[Delta(2, "c"), Delta(0, "a"), Delta(1, "b")]])["choices"]] == [
        0,
        1,
        2,
    ]
