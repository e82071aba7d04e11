"""Tool calls taken out of text that comes in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.llamacpp.tools import ToolCallParser

NAMES = frozenset({"weather", "time"})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'

PIECES = st.sampled_from(
    [CALL, "<tool_call>", "</tool_call>", '{"name": "time", "arguments": {}}', '"', "{", "}", " ", "\n", "<tool", "é"]
)

Read = tuple[str, list[tuple[int, str | None, str]]]


def read(*pieces: str, one: bool = False) -> Read:
    """The text and the calls, these without their random ids."""
    parser = ToolCallParser(NAMES, one=one)
    parts = [*(parser.feed(piece) for piece in pieces), parser.flush()]
    calls = [(call.index, call.name, call.arguments) for _, found in parts for call in found]
    return "".join(text for text, _ in parts), calls


def test_text_without_calls_stays_as_it_is() -> None:
    assert read("Hello ", "there. \n") == ("Hello there. \n", [])


def test_a_call_is_taken_out_and_the_text_before_it_stays() -> None:
    assert read("Let me see.\n" + CALL) == ("Let me see.", [(0, "weather", '{"city": "Paris"}')])


def test_calls_one_after_the_other_are_numbered() -> None:
    assert read(CALL + "\n" + CALL)[1] == [(0, "weather", '{"city": "Paris"}'), (1, "weather", '{"city": "Paris"}')]


def test_white_space_between_calls_is_dropped() -> None:
    assert read(CALL + "\n \n" + CALL + "\n")[0] == ""


def test_every_call_has_an_id_of_its_own() -> None:
    _, calls = ToolCallParser(NAMES).feed(CALL + CALL)
    ids = {call.id for call in calls}
    assert len(ids) == 2
    assert all(call_id and call_id.startswith("call_") for call_id in ids)


def test_what_could_become_a_call_is_held_back() -> None:
    parser = ToolCallParser(NAMES)
    assert parser.feed("see <tool_c") == ("see", ())
    assert parser.feed("ar>") == (" <tool_car>", ())


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "{}",
        "[]",
        '{"name": "weather"}',
        '{"name": "weather", "arguments": "Paris"}',
        '{"name": "unknown", "arguments": {}}',
        '{"name": ["weather"], "arguments": {}}',
        '{"name": "weather", "arguments": {"x": NaN}}',
        '{"name": "weather", "arguments": {}} and more',
        "[" * 100_000,
    ],
)
def test_what_is_no_call_is_given_back_as_text(body: str) -> None:
    text = f"a <tool_call>{body}</tool_call> b"
    assert read(text) == (text, [])


def test_a_call_without_its_end_mark_counts_when_it_is_whole() -> None:
    assert read(CALL.removesuffix("</tool_call>")) == ("", [(0, "weather", '{"city": "Paris"}')])


def test_a_call_that_was_cut_off_is_given_back_as_text() -> None:
    text = 'x <tool_call>\n{"name": "weather", "argum'
    assert read(text) == (text, [])


def test_the_end_mark_may_stand_in_an_argument() -> None:
    body = json.dumps({"name": "weather", "arguments": {"city": "a</tool_call>b"}})
    assert read(f"<tool_call>{body}</tool_call>!") == ("!", [(0, "weather", '{"city": "a</tool_call>b"}')])


def test_only_the_first_call_counts_when_one_is_wanted() -> None:
    assert read("Yes. " + CALL + " more " + CALL, one=True) == ("Yes.", [(0, "weather", '{"city": "Paris"}')])


def test_arguments_keep_their_letters() -> None:
    body = '{"name": "weather", "arguments": {"city": "Z\\u00fcrich 北京"}}'
    assert read(f"<tool_call>{body}</tool_call>")[1] == [(0, "weather", '{"city": "Zürich 北京"}')]


def test_arguments_with_half_a_surrogate_pair_can_be_encoded() -> None:
    body = '{"name": "weather", "arguments": {"city": "\\ud83d"}}'
    _, calls = read(f"<tool_call>{body}</tool_call>")
    assert calls[0][2].encode() == b'{"city": "\\ud83d"}'


@given(st.lists(PIECES, max_size=10), st.booleans())
def test_any_cutting_of_a_text_gives_the_same(pieces: list[str], one: bool) -> None:
    text = "".join(pieces)
    assert read(*pieces, one=one) == read(text, one=one) == read(*text, one=one)


@given(st.lists(PIECES, max_size=10))
def test_nothing_but_calls_and_white_space_is_lost(pieces: list[str]) -> None:
    text = "".join(pieces)
    shown, calls = read(text)
    assert calls or shown == text
