"""Random answers of a handler, for the tests of everything that writes or joins them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import strategies as st

from serve.protocol.events import Delta, Event, TokenLogprob, ToolCallDelta, TopLogprob, Usage
from serve.protocol.sse import DONE, FrameReader

Json = dict[str, Any]
Answer = list[Sequence[Event]]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LOGPROB = st.floats(-50, 0, allow_nan=False)
TOP = st.builds(TopLogprob, TEXT, LOGPROB, st.binary(max_size=4))
LOGPROBS = st.lists(
    st.builds(TokenLogprob, TEXT, LOGPROB, st.binary(max_size=4), st.lists(TOP, max_size=2).map(tuple)), max_size=2
).map(tuple)
CALL_PIECE = st.builds(ToolCallDelta, st.integers(0, 1), st.none(), st.none(), TEXT)
USAGE = st.builds(Usage, st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))


def delta(index: int) -> st.SearchStrategy[Delta]:
    """A piece of one choice."""
    return st.one_of(
        st.builds(Delta, st.just(index), TEXT),
        st.builds(
            Delta,
            st.just(index),
            TEXT,
            TEXT,
            st.lists(CALL_PIECE, max_size=2).map(tuple),
            st.none() | LOGPROBS,
        ),
    )


@st.composite
def answers(draw: st.DrawFn, choices: int = 1) -> Answer:
    """The events of a whole answer: pieces of all choices mixed, then the end of each, then the usage."""
    events: list[Event] = draw(st.lists(st.integers(0, choices - 1).flatmap(delta), max_size=10))
    for index in draw(st.permutations(range(choices))):
        events.append(Delta(index, finish_reason=draw(st.sampled_from(["stop", "length", "tool_calls"]))))
    events.append(draw(USAGE))
    groups: Answer = []
    while events:
        size = draw(st.integers(1, 4))
        groups.append(events[:size])
        events = events[size:]
    return groups


def frames(stream: bytes) -> list[Json]:
    """The JSON objects of a stream, its end mark left out."""
    return [orjson.loads(data) for data in FrameReader().feed(stream) if data != b"[DONE]"]


def ends_well(stream: bytes) -> bool:
    """Whether a stream has its end mark, once, at its end."""
    return stream.endswith(DONE) and stream.count(DONE) == 1
