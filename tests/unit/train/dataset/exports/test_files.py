"""What a file is, is told by its content."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.dataset.exports.samples import (
    ALPACA,
    GROUP,
    OPENAI,
    PERPLEXITY_THREAD,
    SHAREGPT,
    chatgpt,
    chatgpt_chat,
    chatgpt_node,
    claude,
    claude_message,
    events,
    openwebui,
    write,
    zipped,
)
from train.dataset.exports import Readers, Reading, files_of, read_file
from train.dataset.exports.problems import Place, Reason
from train.dataset.rows import Row

KINDS: dict[str, Any] = {
    "chatgpt": chatgpt_chat(),
    "claude": claude(),
    "openwebui": openwebui(),
    "perplexity": PERPLEXITY_THREAD,
    "sharegpt": SHAREGPT,
    "alpaca": ALPACA,
    "openai": OPENAI,
    "groupqwen": GROUP,
}


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("name", ["conversations.json", "x.zip", "data", "notes.md"])
def test_a_conversation_is_told_by_its_content_and_not_by_the_name_of_its_file(
    tmp_path: Path, source: str, name: str
) -> None:
    (row,), _ = events(write(tmp_path / name, [KINDS[source]]))
    assert row.source == source


@pytest.mark.parametrize("source", KINDS)
def test_a_conversation_is_found_alone_on_lines_and_in_an_archive(tmp_path: Path, source: str) -> None:
    one = json.dumps(KINDS[source])
    for content in (one, f"{one}\n{one}\n", json.dumps(KINDS[source], indent=2), zipped({"x": [KINDS[source]]})):
        rows, _ = events(write(tmp_path / "f", content))
        assert {row.source for row in rows} == {source}


def test_one_file_may_hold_conversations_of_every_source(tmp_path: Path) -> None:
    rows, problems = events(write(tmp_path / "f.json", list(KINDS.values())))
    assert [row.source for row in rows] == list(KINDS)
    assert problems == []


def test_a_forced_source_passes_over_the_others(tmp_path: Path) -> None:
    reading = Reading(readers=Readers("claude"))
    found = list(read_file(write(tmp_path / "f.json", list(KINDS.values())), reading))
    assert [one.source for one in found if isinstance(one, Row)] == ["claude"]
    assert len(found) == len(KINDS)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"hello", "known form"),
        (b"\x1f\x8b\x08\x00", "archive"),
        ("[]".encode("utf-16"), "UTF-16"),
        (b"%PDF-1.7", "known form"),
        (b'[{"x": 1}]', "known form"),
        (b"<html>{}</html>", "known form"),
    ],
)
def test_a_file_that_is_no_export_is_one_problem_that_says_why(tmp_path: Path, content: bytes, word: str) -> None:
    rows, (problem,) = events(write(tmp_path / "f", content))
    assert rows == []
    assert problem.reason is Reason.NOT_RECOGNISED
    assert word in problem.detail


def test_an_export_without_chats_is_no_problem(tmp_path: Path) -> None:
    assert events(write(tmp_path / "f.json", [])) == ([], [])


def test_an_unknown_object_among_conversations_is_a_problem_with_its_place(tmp_path: Path) -> None:
    rows, (problem,) = events(write(tmp_path / "f.json", [{"x": 1}, chatgpt_chat(), ALPACA]))
    assert len(rows) == 2
    assert (problem.reason, problem.place.number) == (Reason.UNKNOWN_SHAPE, 1)


def test_good_rows_behind_garbage_are_found(tmp_path: Path) -> None:
    rows, problems = events(write(tmp_path / "f", b"\x00garbage\n" + json.dumps(OPENAI).encode()))
    assert len(rows) == 1
    assert [problem.reason for problem in problems] == [Reason.BROKEN_JSON]


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    _, (problem,) = events(str(tmp_path / "gone"))
    assert problem.reason is Reason.UNREADABLE


@pytest.mark.parametrize("content", [json.dumps([OPENAI]).encode(), zipped({"c.json": [OPENAI]})])
def test_standard_input_may_be_text_or_an_archive(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    rows, problems = events("-")
    assert len(rows) == 1
    assert problems == []


def test_ids_do_not_depend_on_where_a_conversation_lies(tmp_path: Path) -> None:
    (one,), _ = events(write(tmp_path / "a.json", [OPENAI]))
    (_, same), _ = events(write(tmp_path / "b.jsonl", json.dumps(ALPACA) + "\n" + json.dumps(OPENAI)))
    assert one.id == same.id
    assert one.provenance != same.provenance


def test_half_surrogate_pairs_and_nul_cost_nothing_wherever_they_are(tmp_path: Path) -> None:
    odd = "\ud800\x00"
    call = {"type": "tool_use", "id": odd, "name": odd, "input": {odd: odd}}
    result = {"type": "tool_result", "tool_use_id": odd, "content": odd}
    conversations = [
        claude(
            claude_message(odd, "human", f"a{odd}"),
            claude_message("b", "assistant", "", call, result, {"type": "text", "text": odd}),
            name=odd,
        ),
        {**SHAREGPT, "tools": [{"name": odd, odd: [odd]}], "title": odd},
        {**OPENAI, "tools": [{odd: odd}], "model": odd},
        chatgpt(
            chatgpt_node(odd, None, "user", odd),
            chatgpt_node(f"{odd}1", odd, "assistant", odd),
            chatgpt_node(f"{odd}2", odd, "assistant", odd),
            title=odd,
        ),
    ]
    rows, problems = events(write(tmp_path / "\udcff.json", conversations), every_branch=True)
    assert problems == []
    assert len(rows) == 5
    assert all(Row.from_json(row.to_json()) == row for row in rows)


def test_folders_give_their_files_sorted_and_no_links(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    names = [write(tmp_path / "b" / "2.json", []), write(tmp_path / "a.json", [])]
    (tmp_path / "link.json").symlink_to(names[0])
    assert list(files_of([str(tmp_path), "-"])) == [names[1], names[0], "-"]


def test_a_place_steers_no_terminal() -> None:
    assert "\x1b" not in str(Place("a.zip", "\x1b[2Jevil\n.json", 3, 1, 0))
