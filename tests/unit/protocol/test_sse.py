"""Server-sent events."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.protocol.sse import DONE, FrameReader, comment, frame

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def read(stream: bytes, cuts: list[int]) -> list[bytes]:
    """What a reader finds in ``stream`` when it comes in pieces that end at ``cuts``."""
    reader = FrameReader()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(edges)]
    return [data for piece in pieces for data in reader.feed(piece)]


@given(st.lists(JSON, max_size=6), st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_back_whole_wherever_the_stream_is_cut(values: list[Any], cuts: list[int]) -> None:
    stream = b"".join(frame(value) for value in values) + DONE
    assert [json.loads(data) for data in read(stream, cuts)[:-1]] == values
    assert read(stream, cuts)[-1] == b"[DONE]"


@given(JSON)
def test_a_frame_has_one_line_and_ends_with_an_empty_one(value: Any) -> None:
    written = frame(value)
    assert written.startswith(b"data: ") and written.endswith(b"\n\n")
    assert written.count(b"\n") == 2 and b"\r" not in written


@given(st.lists(st.integers(0, 60), max_size=8))
def test_comments_and_other_fields_are_dropped(cuts: list[int]) -> None:
    stream = comment("still here") + b"event: ping\nid: 7\n\n" + b"event: x\ndata: 1\nretry: 5\n\n"
    assert read(stream, cuts) == [b"1"]


@given(st.lists(st.integers(0, 60), max_size=8))
@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
def test_every_line_ending_that_the_standard_allows_is_read(end: bytes, cuts: list[int]) -> None:
    stream = end.join([b": hello", b"", b"data: a", b"data: b", b"", b"data:c", b"", b""])
    # A carriage return at the very end could still be followed by the line feed that belongs to it.
    assert read(stream + (b":" if end == b"\r" else b""), cuts) == [b"a\nb", b"c"]


def test_one_space_after_the_colon_belongs_to_the_format_and_others_to_the_data() -> None:
    assert read(b"data:a\n\ndata: a\n\ndata:  a\n\ndata:\n\n", []) == [b"a", b"a", b" a", b""]


def test_an_event_that_has_not_ended_is_kept_back() -> None:
    reader = FrameReader()
    assert list(reader.feed(b'data: {"a"')) == []
    assert list(reader.feed(b":1}\n")) == []
    assert list(reader.feed(b"\n")) == [b'{"a":1}']
