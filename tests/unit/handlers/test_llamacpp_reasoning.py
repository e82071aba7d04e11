"""Reasoning told apart from the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.llamacpp.reasoning import ReasoningSplitter, State, state_after

MARKS = st.sampled_from(["<think>", "</think>", "<thi", "</", " ", "\n", "so", "é"])


def split(state: State, *pieces: str) -> tuple[str, str]:
    splitter = ReasoningSplitter(state)
    parts = [*(splitter.feed(piece) for piece in pieces), splitter.flush()]
    return "".join(reasoning for reasoning, _ in parts), "".join(answer for _, answer in parts)


def test_reasoning_and_answer_lose_their_marks_and_the_white_space_at_them() -> None:
    assert split("before", "<think>\nWell, two.\n</think>\n\nTwo.") == ("Well, two.", "Two.")


def test_an_answer_without_reasoning_stays_whole() -> None:
    assert split("before", "  Two <think> of") == ("", "  Two <think> of")


def test_an_output_may_begin_inside_its_reasoning() -> None:
    assert split("inside", "Well.\n", "</think>Two.") == ("Well.", "Two.")


def test_reasoning_without_an_end_is_all_reasoning() -> None:
    assert split("before", "<think>Well </th") == ("Well </th", "")


def test_marks_within_the_answer_are_text() -> None:
    assert split("inside", "a</think>b</think>c") == ("a", "b</think>c")


def test_reasoning_is_passed_on_before_it_ends() -> None:
    splitter = ReasoningSplitter("before")
    assert splitter.feed("<think>Well, ") == ("Well,", "")
    assert splitter.feed("two") == (" two", "")


@pytest.mark.parametrize(
    ("prompt", "state"),
    [
        ("<|im_start|>assistant\n", "before"),
        ("<|im_start|>assistant\n<think>\n", "inside"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "after"),
    ],
)
def test_the_prompt_says_where_the_output_begins(prompt: str, state: State) -> None:
    assert state_after(prompt) == state


@given(st.sampled_from(["before", "inside", "after"]), st.lists(MARKS, max_size=10))
def test_any_cutting_of_a_text_gives_the_same(state: State, pieces: list[str]) -> None:
    text = "".join(pieces)
    assert split(state, *pieces) == split(state, text) == split(state, *text)
