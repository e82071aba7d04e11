"""Objects in a stream of JSON: in one piece or in many, whole or broken."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from train.dataset.exports import frames
from train.dataset.exports.frames import Broken, Found, Frames
from train.dataset.exports.problems import Reason


class Slow:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


def wanted(value: dict[str, Any]) -> bool:
    return "a" in value


def found(data: bytes, size: int = 1 << 20, **limits: int) -> Iterator[object]:
    for one in Frames(Slow(data, size), wanted, **limits):
        yield one.value["a"] if isinstance(one, Found) else one.reason


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b'[{"a": 1}, {"a": 2}]',
        b'\xef\xbb\xbf[{"a": 1}, {"a": 2}]',
        b'{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}{"a": 2}',
        b'[{"a": 1}]\r\n[{"a": 2}]',
        b'{"x": [{}], "conversations": [{"a": 1}, {"a": 2}], "total": [{"a": 3}]}',
        b' {"threads" : [ {"a": 1} , {"a": 2} ] } ',
    ],
)
def test_objects_are_found_in_every_kind_of_stream_however_it_comes(data: bytes, size: int) -> None:
    assert list(found(data, size)) == [1, 2]


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    "text", ['"', "\\", "}", "]", '{"a"', "[[[", '\\"', "\\\\", "\n", "\x00", "😀", "\u2028", "},{"]
)
def test_text_that_looks_like_structure_is_text(text: str, size: int) -> None:
    data = json.dumps([{"a": text}, {"a": [text, {"b": text}]}]).encode()
    assert list(found(data, size)) == [text, [text, {"b": text}]]


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    "broken",
    [
        b"null",
        b'"text"',
        b"12",
        b"nonsense",
        b'{"a": tru}',
        b'{"a": 01}',
        b'{"a": "open, "b": [{"c": 1}]}',
        b'{"a": [1, 2}',
        b'{"a": {"b": 1}',
        b'{"a": "line\nbreak"}',
        b'{"a": "bad \\x escape"}',
        b'{"a": "open',
        b"\x00\xff\xfe",
        b'"',
    ],
)
def test_what_is_broken_is_reported_once_and_the_others_are_found(broken: bytes, size: int) -> None:
    events = list(found(b'[{"a": 1}, ' + broken + b',\n{"a": 2}, {"a": 3}]', size))
    values = [event for event in events if not isinstance(event, Reason)]
    assert values == [1, 2, 3]
    assert len(events) <= 5
    assert any(isinstance(event, Reason) for event in events)


def test_places_count_objects_lines_and_bytes() -> None:
    places = [
        (one.number, one.line, one.byte) for one in Frames(io.BytesIO(b'{"a": 1}\n\n{"a": x}\n{"a": 3}'), wanted)
    ]
    assert places == [(1, 1, 0), (2, 3, 10), (3, 4, 19)]


def test_data_that_ends_in_the_middle_is_cut_off() -> None:
    assert list(found(b'[{"a": 1}, {"a": [{"b"')) == [1, Reason.CUT_OFF]


def test_an_object_larger_than_the_limit_is_passed_over() -> None:
    giant = json.dumps({"a": "x" * 2000, "b": [{"c": number} for number in range(100)]}).encode()
    assert list(found(b'[{"a": 1}, ' + giant + b', {"a": 2}]', most=1000)) == [1, Reason.TOO_LARGE, 2]


@pytest.mark.parametrize("deep", [b"[" * 300 + b"]" * 300, b'{"b": ' * 300 + b"1" + b"}" * 300])
def test_an_object_deeper_than_the_limit_is_passed_over(deep: bytes) -> None:
    assert list(found(b'[{"a": ' + deep + b'}, {"a": 2}]')) == [Reason.TOO_DEEP, 2]


def test_a_wrapper_with_a_broken_first_conversation_still_gives_the_others() -> None:
    assert list(found(b'{"conversations": [{"a": x}, {"a": 2}, {"a": 3}]}'))[1:] == [2, 3]


def test_an_array_that_is_part_of_an_object_is_not_taken_for_a_wrapper() -> None:
    (one,) = Frames(io.BytesIO(b'{"conversations": [{"from": "human"}], "a": 1}'), wanted)
    assert isinstance(one, Found)
    assert one.value["a"] == 1


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert list(found(b'[{"a": "x\xff"}]')) == ["x\ufffd"]


def test_half_a_surrogate_pair_is_no_error() -> None:
    assert list(found(b'[{"a": "\\ud800"}, {"a": 2}]')) == ["\ud800", 2]


def test_a_number_too_long_for_python_costs_its_object_only() -> None:
    assert list(found(b'[{"a": ' + b"9" * 10_000 + b'}, {"a": 2}]'))[-1] == 2


def test_an_error_of_the_stream_ends_it_and_is_kept() -> None:
    class Failing(Slow):
        def read(self, size: int, /) -> bytes:
            data = super().read(size)
            if not data:
                raise EOFError("cut")
            return data

    stream = Frames(Failing(b'[{"a": 1}, {"a"', 4), wanted)
    assert [type(one) for one in stream] == [Found, Broken]
    assert isinstance(stream.failure, EOFError)


@pytest.mark.parametrize(
    "data", [b'[{"a":' * 20_000, b',{"b":[{}' * 20_000, b'{"q":"' + b'\n{"' * 20_000, b'{"' * 50_000]
)
def test_what_is_made_to_be_read_again_and_again_comes_to_an_end(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MOST_BRACKETS", 20_000)
    assert all(isinstance(event, Reason) for event in found(data))
