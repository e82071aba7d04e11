"""Claude's conversations: blocks, artifacts, attachments, branches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.train.dataset.exports.samples import Json, claude, claude_message, events, said, write
from train.dataset.exports.problems import Reason
from train.dataset.rows import Row


def one(tmp_path: Path, conversation: Json) -> Row:
    rows, problems = events(write(tmp_path / "c.json", [conversation]))
    assert problems == []
    return rows[0]


def artifact(command: str, **fields: Any) -> Json:
    return {"type": "tool_use", "id": "t1", "name": "artifacts", "input": {"command": command, "id": "x", **fields}}


def test_thinking_calls_and_results_keep_their_order(tmp_path: Path) -> None:
    row = one(
        tmp_path,
        claude(
            claude_message("m1", "human", "Weather?"),
            claude_message(
                "m2",
                "assistant",
                "",
                {"type": "thinking", "thinking": "I should look."},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t", "name": "web_search", "input": {"query": "weather"}},
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "Sunny"}]},
                {"type": "text", "text": "Sunny."},
                {"type": "token_budget"},
            ),
        ),
    )
    assert said(row)[1:] == [("assistant", "Let me look."), ("tool", "Sunny"), ("assistant", "Sunny.")]
    assert row.messages[1].reasoning_content == "I should look."
    assert row.messages[1].tool_calls is not None
    assert row.messages[1].tool_calls[0].function.arguments == '{"query":"weather"}'
    assert row.provenance.dropped == {"unknown_block": 1}


def test_an_artifact_is_shown_as_it_is_after_each_change(tmp_path: Path) -> None:
    create = artifact("create", type="application/vnd.ant.code", language="python", title="Hi", content="print(1)")
    row = one(
        tmp_path,
        claude(
            claude_message("m1", "human", "A program."),
            claude_message(
                "m2", "assistant", "", create, {"type": "tool_result", "tool_use_id": "t1", "content": "OK"}
            ),
            claude_message("m3", "human", "Print 2."),
            claude_message("m4", "assistant", "", artifact("update", old_str="1", new_str="2")),
        ),
    )
    assert said(row)[1] == ("assistant", "**Hi**\n\n```python\nprint(1)\n```")
    assert said(row)[3] == ("assistant", "**Hi**\n\n```python\nprint(2)\n```")


def test_artifacts_of_older_exports_are_tags_in_the_text(tmp_path: Path) -> None:
    tag = '<antArtifact identifier="x" type="text/html" title="P"><p>``` </p></antArtifact>'
    text = f"<antThinking>hm</antThinking>Here:\n{tag}"
    row = one(tmp_path, claude(claude_message("m1", "human", "Page"), claude_message("m2", "assistant", text)))
    assert said(row)[1] == ("assistant", "Here:\n**P**\n\n````html\n<p>``` </p>\n````")


def test_attachments_come_with_their_text_and_files_as_marks(tmp_path: Path) -> None:
    asked = claude_message(
        "m1",
        "human",
        "Sum up.",
        attachments=[{"file_name": "a.txt", "file_size": 3, "extracted_content": "abc"}],
        files=[{"file_name": "a.txt"}, {"file_name": "b.png", "file_kind": "image"}, {"file_name": "c.pdf"}],
    )
    row = one(tmp_path, claude(asked, claude_message("m2", "assistant", "abc")))
    assert said(row)[0] == ("user", "[file: a.txt]\nabc\n\n[image]\n\n[file: c.pdf]\n\nSum up.")


def test_text_is_used_where_there_are_no_blocks_without_the_marks_for_missing_ones(tmp_path: Path) -> None:
    text = "Look:\n```\nThis block is not supported on your current device yet.\n```\nDone."
    answer = claude_message("m2", "assistant", text, content=[])
    row = one(tmp_path, claude(claude_message("m1", "human", "Hi", content=None), answer))
    assert said(row) == [("user", "Hi"), ("assistant", "Look:\nDone.")]


def forked() -> Json:
    root = "00000000-0000-4000-8000-000000000000"
    return claude(
        claude_message("m1", "human", "Hi", parent_message_uuid=root),
        claude_message("m2", "assistant", "Ho", parent_message_uuid="m1"),
        claude_message("m3", "assistant", "Hey", parent_message_uuid="m1"),
    )


def test_an_answer_that_was_made_again_is_a_branch(tmp_path: Path) -> None:
    rows, _ = events(write(tmp_path / "c.json", [forked()]), every_branch=True)
    assert [said(row)[-1][1] for row in rows] == ["Hey", "Ho"]
    assert all(row.provenance.dropped is None for row in rows)


def test_the_current_leaf_says_which_branch_was_seen_last(tmp_path: Path) -> None:
    assert said(one(tmp_path, forked() | {"current_leaf_message_uuid": "m2"}))[-1] == ("assistant", "Ho")


def test_messages_that_are_no_list_are_a_problem(tmp_path: Path) -> None:
    _, (problem,) = events(write(tmp_path / "c.json", [claude(chat_messages={"a": 1})]))
    assert problem.reason is Reason.WRONG_VALUE
