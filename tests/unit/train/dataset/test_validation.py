"""Validation of training files: each fault by its line and field, what is allowed, and never what was said."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.train.dataset.exports.samples import OPENAI, events, write
from train.dataset.rows import MAX_MESSAGES
from train.dataset.validation import Validation, lines_of, validate
from train.dataset.validation.__main__ import main

Json = dict[str, Any]

USER: Json = {"role": "user", "content": "Weather?"}
ANSWER: Json = {"role": "assistant", "content": "Sunny."}
CHAT: Json = {"messages": [USER, ANSWER]}
CALL: Json = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TOOL: Json = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PAIR: Json = {
    "input": {"messages": [USER], "tools": [TOOL], "parallel_tool_calls": True},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{**ANSWER, "content": "Rain."}],
}
SECRET = "marmalade"


def check(*lines: object, **options: Any) -> Validation:
    """Validate lines: bytes as they are, all else as JSON."""
    return validate([one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines], **options)


def errors(*lines: object) -> list[tuple[int | None, str | None, str]]:
    return [(one.line, one.field, one.reason) for one in check(*lines).errors.listed]


def warnings(*lines: object) -> list[tuple[int | None, str | None, str]]:
    found = check(*lines)
    assert found.valid
    return [(one.line, one.field, one.reason) for one in found.warnings.listed]


def with_answer(**fields: Any) -> Json:
    return {"messages": [USER, {**ANSWER, **fields}]}


def test_the_three_forms_pass_and_are_counted(tmp_path: Path) -> None:
    rows, _ = events(write(tmp_path / "c.json", [OPENAI]))
    assert check(CHAT).valid
    assert check(rows[0].to_json()).valid
    found = check(PAIR)
    assert found.valid
    assert (found.statistics.examples, found.statistics.preferences, found.statistics.messages) == (1, 1, 3)


def test_statistics_count_characters_by_role_and_what_is_learned() -> None:
    system = {"role": "system", "content": "Be brief 👩"}
    turns = [system, USER, {**ANSWER, "weight": 0}, {"role": "user", "content": "And?"}, ANSWER]
    found = check({"messages": turns}, CHAT).statistics
    assert (found.lines, found.examples, found.messages, found.learned) == (2, 2, 7, 2)
    assert {role: (one.messages, one.characters) for role, one in found.roles.items()} == {
        "system": (1, 10),
        "user": (3, 20),
        "assistant": (3, 18),
    }
    assert (found.characters, found.longest) == (48, 34)


def test_tools_calls_parts_and_the_older_function_call_pass() -> None:
    called = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 1},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {**ANSWER, "refusal": None},
    ]
    older = [
        USER,
        {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sun"},
        ANSWER,
    ]
    assert errors({"messages": called, "tools": [TOOL]}, {"messages": older, "functions": [TOOL["function"]]}) == []


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"messages": []}, "messages", "wrong_value"),
        ({"messages": "x"}, "messages", "wrong_value"),
        ({"messages": [USER, 5]}, "messages[1]", "wrong_value"),
        ({"messages": [{"role": "usr", "content": "x"}]}, "messages[0].role", "wrong_value"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
        (with_answer(content=5), "messages[1].content", "wrong_content"),
        (with_answer(content=None), "messages[1]", "missing_content"),
        (with_answer(content=[{"type": "text"}]), "messages[1].content[0]", "missing_text"),
        (with_answer(content=[{"type": "video", "text": "x"}]), "messages[1].content[0].type", "wrong_value"),
        (with_answer(weight=2), "messages[1].weight", "wrong_value"),
        (with_answer(weight=0.5), "messages[1].weight", "wrong_value"),
        (with_answer(weigth=1), "messages[1].weigth", "unknown_key"),
        (with_answer(tool_calls=[]), "messages[1].tool_calls", "wrong_value"),
        (with_answer(tool_calls=[{**CALL, "id": 1}]), "messages[1].tool_calls[0].id", "wrong_value"),
        ({"messages": [{**USER, "weight": 1}, ANSWER]}, "messages[0]", "bad_message"),
        ({"messages": [USER, {"role": "tool", "content": "x"}, ANSWER]}, "messages[1]", "missing_call_id"),
        (
            {**CHAT, "tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
            "wrong_value",
        ),
        ({"messages": [USER]}, "messages", "no_answer"),
        ({"messages": [USER, {**ANSWER, "content": " "}]}, "messages", "no_answer"),
        ({**PAIR, "preferred_output": []}, "preferred_output", "wrong_value"),
        ({**PAIR, "non_preferred_output": [USER]}, "non_preferred_output[0].role", "wrong_value"),
        ({"preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}, "input", "missing"),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, "non_preferred_output", "missing"),
        ({"prompt": "a", "completion": "b"}, None, "unknown_form"),
        ({}, None, "unknown_form"),
        ([CHAT], None, "json_array"),
        ("text", None, "not_an_object"),
        (b"\xff\xfe{\x00", None, "not_utf8"),
        (b'{"messages": "\xe4"}', None, "not_utf8"),
        (b'{"messages": [', None, "broken_json"),
        (b'{"messages": NaN}', None, "broken_json"),
        (b'{"a":' * 5000, None, "too_deep"),
    ],
)
def test_a_fault_is_told_by_its_field(value: object, field: str | None, reason: str) -> None:
    assert errors(value) == [(1, field, reason)]


@pytest.mark.parametrize("levels", [200, 201, 5000])
def test_what_is_nested_too_deep_for_the_readers_is_a_fault(levels: int, tmp_path: Path) -> None:
    inside = levels - 5  # Of the line, its list of tools, a tool, its function and the parameters.
    schema = '{"a":' * inside + "1" + "}" * inside
    line = json.dumps({**CHAT, "tools": [TOOL]}).replace('{"type": "object"}', f'{{"properties": {schema}}}')
    (tmp_path / "c.jsonl").write_text(line)
    rows, problems = events(str(tmp_path / "c.jsonl"))
    assert errors(line.encode()) == ([] if levels == 200 else [(1, None, "too_deep")])
    assert (len(rows), len(problems)) == ((1, 0) if levels == 200 else (0, 1))


def test_a_row_with_a_fault_is_told_by_its_field(tmp_path: Path) -> None:
    rows, _ = events(write(tmp_path / "c.json", [OPENAI]))
    row = json.loads(rows[0].to_json())
    row["messages"][0]["role"] = "usr"
    assert errors(row) == [(1, "messages[0].role", "wrong_value")]
    row["messages"] = [ANSWER]
    assert errors(row)[0][2] == "no_answer"


def test_every_fault_of_a_line_is_told_and_the_good_lines_are_still_counted() -> None:
    bad = {"messages": [{"role": "usr", "content": 5}, {**ANSWER, "weight": 7}]}
    found = check(CHAT, bad, b"{", {"messages": [{**USER, "content": "Other?"}, ANSWER]})
    assert [(one.line, one.field) for one in found.errors.listed] == [
        (2, "messages[0].role"),
        (2, "messages[0].content"),
        (2, "messages[1].weight"),
        (3, None),
    ]
    assert (found.statistics.lines, found.statistics.examples) == (4, 2)


def test_what_is_allowed_is_said_and_what_was_said_is_not() -> None:
    bad: list[Any] = [
        {"messages": [{"role": SECRET, "content": SECRET}]},
        {"messages": [USER, {**ANSWER, SECRET + " toast": SECRET}]},
        {"messages": [USER, {**ANSWER, "weight": SECRET, "content": [{"type": SECRET}]}]},
        {**CHAT, "tools": [{"type": SECRET, "function": {"name": f"{SECRET} x"}}]},
        {SECRET + " toast": SECRET},
        f'{{"{SECRET}'.encode(),
        f'{{"a": "{SECRET}" {SECRET}}}'.encode(),
        [SECRET],
    ]
    found = check(*bad, {**CHAT, SECRET + "!": 1})
    assert found.errors.total > 7
    assert SECRET not in json.dumps(found.body()) + found.text()
    assert "input should be 'system', 'developer', 'user'" in found.text()


def test_a_wrong_key_gets_the_nearest_right_one_and_all_that_are_allowed(tmp_path: Path) -> None:
    assert "did you mean 'weight'? allowed: annotations, audio, content," in check(with_answer(weigth=1)).text()
    assert (
        "allowed: description, name, parameters, strict"
        in check({**CHAT, "tools": [{**TOOL, "function": {"name": "f", "arguments": {}}}]}).text()
    )
    rows, _ = events(write(tmp_path / "c.json", [OPENAI]))
    assert "did you mean 'tools'? allowed: created_at," in check({**json.loads(rows[0].to_json()), "tool": 1}).text()


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_a_file_without_an_example_is_not_valid(content: bytes) -> None:
    found = validate(lines_of(io.BytesIO(content)))
    assert [(one.line, one.reason) for one in found.errors.listed] == [(None, "empty")]


def test_byte_order_mark_windows_line_ends_and_blank_lines_are_no_errors() -> None:
    line = json.dumps(CHAT).encode()
    content = b"\xef\xbb\xbf" + line + b"\r\n\r\n \t\n" + json.dumps(PAIR).encode()
    found = validate(lines_of(io.BytesIO(content)))
    assert found.valid
    assert [(one.line, one.reason) for one in found.warnings.listed] == [
        (1, "byte_order_mark"),
        (2, "blank_line"),
        (3, "blank_line"),
        (None, "mixed_forms"),
    ]
    assert found.statistics.lines == 4


def test_an_example_that_comes_again_is_a_warning_however_it_is_written() -> None:
    again = {"tools": None, "messages": [{"content": [{"type": "text", "text": "Weather?"}], "role": "user"}, ANSWER]}
    found = check(CHAT, with_answer(content="Rain."), again)
    assert found.valid
    assert [(one.line, one.message) for one in found.warnings.listed] == [(3, "says the same as line 1")]


def test_a_pair_of_equal_answers_is_a_warning() -> None:
    assert warnings({**PAIR, "non_preferred_output": [ANSWER]}) == [(1, None, "same_answers")]
    assert warnings(PAIR) == []


def test_what_reading_leaves_out_and_keys_that_nothing_reads_are_warnings() -> None:
    late = {"messages": [USER, {"role": "system", "content": "Be brief."}, ANSWER]}
    assert warnings(late) == [(1, "messages", "left_out")]
    assert warnings({**CHAT, "tool": []}) == [(1, "tool", "ignored_key")]
    assert warnings({**CHAT, "metadata": {}, "created": 1}) == []


def test_a_file_that_nothing_is_learned_from_is_not_valid() -> None:
    assert errors(with_answer(weight=0)) == [(None, None, "nothing_learned")]
    assert errors(with_answer(weight=0), CHAT) == []


def test_after_an_array_or_another_encoding_the_rest_is_not_read() -> None:
    found = check(b"[", CHAT, b"{", b"]")
    assert (found.errors.total, found.statistics.lines) == (1, 1)
    assert "one object on each line" in found.text()


def test_the_list_of_faults_has_an_end_and_all_are_counted() -> None:
    found = check(*[b"{"] * 500, listed=7)
    assert (len(found.errors.listed), found.errors.total) == (7, 500)
    assert "errors that are not listed: 493" in found.text()


def test_more_messages_than_a_row_may_have_are_refused_before_they_are_looked_at() -> None:
    found = check({"messages": [5] * (MAX_MESSAGES + 1)})
    assert [(one.field, one.reason) for one in found.errors.listed] == [("messages", "wrong_value")]
    assert str(MAX_MESSAGES) in found.errors.listed[0].message


class Endless:
    """A file of one line that does not end before ``size`` bytes, and what was asked of it."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.largest = 0

    def readline(self, size: int, /) -> bytes:
        self.largest = max(self.largest, size)
        count = min(size, self.left)
        self.left -= count
        return b"x" * count + (b"\n" if not self.left and 0 < count < size else b"")


def test_a_giant_line_costs_no_more_memory_than_the_longest_that_is_allowed() -> None:
    file = Endless(200 << 20)
    told: list[int] = []
    (line,) = lines_of(file, most=1000, progress=told.append)
    assert len(line) == 1001
    assert file.largest <= 1 << 20
    assert sum(told) in (200 << 20, (200 << 20) + 1)
    assert [one.reason for one in validate([line], most=1000).errors.listed] == ["too_large"]


def test_the_line_after_a_giant_one_keeps_its_number() -> None:
    content = b"x" * 5_000_000 + b"\n" + json.dumps(CHAT).encode() + b"\n{"
    found = validate(lines_of(io.BytesIO(content), most=1000), most=1000)
    assert [(one.line, one.reason) for one in found.errors.listed] == [(1, "too_large"), (3, "broken_json")]


@given(st.lists(st.binary(max_size=80), max_size=12))
def test_no_bytes_whatsoever_break_it(lines: list[bytes]) -> None:
    found = validate(lines)
    assert not found.valid
    json.dumps(found.body())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["role", "content", "weight", "tool_calls", "name", "tool_call_id", "function_call"])
MESSAGES = st.lists(st.dictionaries(FIELDS, JSON | st.sampled_from(["user", "assistant", "tool"])) | JSON, max_size=4)


@given(MESSAGES, JSON)
def test_an_example_of_any_shape_gets_a_verdict_and_what_passes_can_be_read(messages: list[Any], tools: Any) -> None:
    found = check({"messages": messages, "tools": tools})
    assert found.statistics.examples + bool(found.errors.total) == 1


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_any_text_in_any_script_passes(asked: str, answered: str) -> None:
    chat = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}
    line = json.dumps(chat, ensure_ascii=False).encode("utf-8", "replace")
    assert validate([line]).valid


def test_the_command_prints_faults_with_lines_and_says_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(json.dumps(CHAT))
    bad.write_text(json.dumps(with_answer(weight=3)) + "\n{")
    assert main([str(good)]) == 0
    assert "valid; lines: 1, examples: 1," in capsys.readouterr().out
    assert main([str(bad), "--list", "1"]) == 1
    shown = capsys.readouterr().out
    assert (
        "error: line 1: messages[1].weight: input should be 0 or 1" in shown
        and "errors that are not listed: 1" in shown
    )
    assert main([str(bad), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"]["total"] == 2
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tmp_path)]) == 2


def test_the_command_runs_as_a_module(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text(json.dumps(CHAT))
    command = [sys.executable, "-m", "train.dataset.validation", str(good), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[4], check=True)
    assert (json.loads(done.stdout)["valid"], done.stderr) == (True, "")
