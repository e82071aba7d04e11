"""Stop strings in text that comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.llamacpp.text import StopMatcher, overlap


def fed(matcher: StopMatcher, *pieces: str) -> str:
    return "".join(matcher.feed(piece) for piece in pieces)


@pytest.mark.parametrize(
    ("text", "marker", "length"),
    [("", "ab", 0), ("xa", "ab", 1), ("xab", "ab", 0), ("aab", "aabc", 3), ("aa", "aab", 2), ("a", "a", 0)],
)
def test_overlap_is_the_longest_end_that_could_begin_the_marker(text: str, marker: str, length: int) -> None:
    assert overlap(text, marker) == length


def test_text_without_stop_strings_passes_at_once() -> None:
    assert StopMatcher(()).feed("anything") == "anything"


def test_a_stop_string_across_pieces_is_found_and_never_shown() -> None:
    matcher = StopMatcher(("END",))
    assert fed(matcher, "one E", "N", "D two") == "one "
    assert matcher.found


def test_what_could_become_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.feed("one EN") == "one "
    assert matcher.feed("ough") == "ENough"
    assert not matcher.found


def test_what_is_held_back_comes_out_at_the_end() -> None:
    matcher = StopMatcher(("END",))
    assert fed(matcher, "one EN") + matcher.flush() == "one EN"


def test_nothing_passes_after_the_stop_string() -> None:
    matcher = StopMatcher(("END",))
    fed(matcher, "END")
    assert matcher.feed("more") == ""
    assert matcher.flush() == ""


def test_the_stop_string_that_ends_first_counts() -> None:
    assert StopMatcher(("bcd", "c")).feed("abcd") == "ab"


def test_of_stop_strings_that_end_together_the_longest_counts() -> None:
    assert StopMatcher(("c", "bc")).feed("abc") == "a"


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_any_cutting_of_a_text_gives_the_same(text: str, stops: list[str], data: st.DataObject) -> None:
    whole = StopMatcher(stops)
    expected = whole.feed(text) + whole.flush()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    matcher = StopMatcher(stops)
    assert fed(matcher, *pieces) + matcher.flush() == expected
    assert matcher.found == whole.found
    assert not any(stop in expected for stop in stops)
