"""ShareGPT, Alpaca and OpenAI's JSONL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.dataset.exports.samples import ALPACA, OPENAI, SHAREGPT, Json, events, said, write
from train.dataset.exports.problems import Reason
from train.dataset.rows import Row

USER, ANSWER = {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Sunny."}
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}


def one(tmp_path: Path, value: object) -> Row:
    rows, problems = events(write(tmp_path / "c.json", value))
    assert problems == []
    return rows[0]


def reason(tmp_path: Path, value: object) -> Reason:
    rows, (problem,) = events(write(tmp_path / "c.json", [value]))
    assert rows == []
    return problem.reason


def test_sharegpt_tools_calls_and_observations(tmp_path: Path) -> None:
    call = json.dumps({"name": "weather", "arguments": {"city": "Paris"}})
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": call},
        {"from": "observation", "value": "sun"},
        {"from": "gpt", "value": "Sunny."},
    ]
    row = one(tmp_path, [{"conversations": turns, "tools": json.dumps([FUNCTION])}])
    assert [role for role, _ in said(row)] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.messages[2].tool_calls is not None
    assert row.messages[2].tool_calls[0].function.arguments == '{"city":"Paris"}'
    assert row.tools == ({"type": "function", "function": FUNCTION},)


def test_sharegpt_preferences_end_in_the_chosen_answer(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi"}]
    chosen, rejected = {"from": "gpt", "value": "Hello."}, {"from": "gpt", "value": "What."}
    row = one(tmp_path, [{"conversations": turns, "chosen": chosen, "rejected": rejected}])
    assert said(row)[-1] == ("assistant", "Hello.")
    assert row.rejected is not None
    assert row.rejected[0].content == "What."


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"from": "alien", "value": "x"}, Reason.BAD_MESSAGE),
        ("text", Reason.BAD_MESSAGE),
        ({"from": "function_call", "value": "no json"}, Reason.BAD_MESSAGE),
    ],
)
def test_a_sharegpt_turn_of_no_known_kind_is_a_problem(tmp_path: Path, turn: Any, expected: Reason) -> None:
    assert reason(tmp_path, {"conversations": [{"from": "human", "value": "Hi"}, turn]}) is expected


def test_sharegpt_ids_are_not_trusted_since_data_sets_use_the_same(tmp_path: Path) -> None:
    other = {**SHAREGPT, "conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B."}]}
    rows, _ = events(write(tmp_path / "c.json", [SHAREGPT, other]))
    assert rows[0].id != rows[1].id


def test_alpaca_history_comes_before_the_instruction(tmp_path: Path) -> None:
    row = one(tmp_path, [{**ALPACA, "system": "Be brief.", "history": [["Hi", "Hello"]]}])
    assert said(row) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Name the capital.\nFrance"),
        ("assistant", "Paris."),
    ]


@pytest.mark.parametrize("history", ["text", [["one"]], [1], {"a": 1}])
def test_a_history_that_is_no_list_of_pairs_is_a_problem(tmp_path: Path, history: Any) -> None:
    assert reason(tmp_path, {**ALPACA, "history": history}) is Reason.WRONG_VALUE


def test_alpaca_without_an_output_is_skipped(tmp_path: Path) -> None:
    assert reason(tmp_path, {**ALPACA, "output": None}) is Reason.NO_ANSWER


def test_openai_weights_tools_and_the_older_function_call(tmp_path: Path) -> None:
    call = {"name": "weather", "arguments": '{"city": "Paris"}'}
    messages = [
        USER,
        {"role": "assistant", "content": "Which city?", "weight": 0},
        {"role": "user", "content": "Paris"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "weather", "content": "sun"},
        {**ANSWER, "weight": 1},
    ]
    row = one(tmp_path, [{"messages": messages, "functions": [FUNCTION]}])
    assert [message.weight for message in row.messages] == [None, 0, None, None, None, 1]
    assert row.messages[3].tool_calls is not None
    assert row.messages[3].tool_calls[0].function.name == "weather"
    assert said(row)[4] == ("tool", "sun")
    assert row.tools == ({"type": "function", "function": FUNCTION},)


def test_openai_preferences(tmp_path: Path) -> None:
    asked = {"messages": [USER], "tools": [], "parallel_tool_calls": True}
    value = {"input": asked, "preferred_output": [ANSWER], "non_preferred_output": [{**ANSWER, "content": "Rain."}]}
    row = one(tmp_path, [value])
    assert said(row) == [("user", "Weather?"), ("assistant", "Sunny.")]
    assert row.rejected is not None
    assert row.rejected[0].content == "Rain."


def test_openai_call_ids_that_come_again_are_told_apart(tmp_path: Path) -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    calls = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_0", "content": "sun"}
    row = one(tmp_path, [{"messages": [USER, calls, result, ANSWER, USER, calls, result, ANSWER]}])
    assert [message.tool_call_id for message in row.messages if message.role == "tool"] == ["call_0", "call_0_"]


def test_openai_parts_become_text_and_marks(tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AA=="}},
        {"type": "file", "file": {"filename": "a.pdf"}},
    ]
    row = one(tmp_path, [{"messages": [{"role": "user", "content": parts}, ANSWER]}])
    assert said(row)[0] == ("user", "What is it?\n[image]\n[audio]\n[file: a.pdf]")


@pytest.mark.parametrize("message", [{"role": "alien", "content": "x"}, "text", None, {"content": "x"}])
def test_an_openai_message_of_no_known_role_is_a_problem(tmp_path: Path, message: Any) -> None:
    assert reason(tmp_path, {"messages": [USER, message]}) is Reason.BAD_MESSAGE


def test_a_line_that_is_broken_costs_that_line_only(tmp_path: Path) -> None:
    good: list[Json] = [{"messages": [{**USER, "content": f"{number}"}, ANSWER]} for number in range(3)]
    lines = [json.dumps(good[0]), json.dumps(OPENAI)[:-9], json.dumps(good[1]), "nonsense", json.dumps(good[2])]
    rows, problems = events(write(tmp_path / "c.jsonl", "\n".join(lines)))
    assert [row.messages[0].content for row in rows] == ["0", "1", "2"]
    assert [problem.place.line for problem in problems] == [2, 4]
