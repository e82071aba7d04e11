"""Open WebUI's chats: trees, answers with thoughts and calls inside, files."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.dataset.exports.samples import Json, events, openwebui, said, write
from train.dataset.rows import Row


def one(tmp_path: Path, chat: object) -> Row:
    rows, problems = events(write(tmp_path / "c.json", chat))
    assert problems == []
    return rows[0]


def answer(text: object, **fields: Any) -> Json:
    return openwebui(
        {
            "u": {"id": "u", "parentId": None, "role": "user", "content": "Capital?"},
            "a": {"id": "a", "parentId": "u", "role": "assistant", "content": text, "model": "m", **fields},
        }
    )


def test_the_branch_of_current_id_is_read_and_models_are_named(tmp_path: Path) -> None:
    tree: dict[str, Json] = {
        "u": {"id": "u", "parentId": None, "role": "user", "content": "Capital?"},
        "a": {"id": "a", "parentId": "u", "role": "assistant", "content": "Paris.", "model": "qwen3", "modelIdx": 0},
        "b": {"id": "b", "parentId": "u", "role": "assistant", "content": "Rome.", "model": "llama", "modelIdx": 1},
    }
    rows, _ = events(write(tmp_path / "c.json", [openwebui(tree)]), every_branch=True)
    assert [(row.model, said(row)[-1][1]) for row in rows] == [("qwen3", "Paris."), ("llama", "Rome.")]


@pytest.mark.parametrize("wrap", [lambda chat: chat, lambda chat: chat["chat"], lambda chat: {"data": [chat]}])
def test_a_chat_is_found_alone_bare_and_wrapped(tmp_path: Path, wrap: Any) -> None:
    assert said(one(tmp_path, wrap(openwebui())))[-1] == ("assistant", "Paris.")


def test_thoughts_and_calls_are_taken_out_of_the_answer(tmp_path: Path) -> None:
    arguments, result = html.escape('{"q": "x"}'), html.escape(json.dumps("found"))
    text = (
        '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds</summary>\n'
        "&gt; step one\n> step two\n</details>\n"
        f'<details type="tool_calls" done="true" id="c" name="search" arguments="{arguments}" result="{result}">\n'
        "<summary>Tool Executed</summary>\n</details>\nParis."
    )
    row = one(tmp_path, [answer(text)])
    assert row.messages[1].reasoning_content == "step one\nstep two"
    assert said(row)[1:] == [("assistant", None), ("tool", '"found"'), ("assistant", "Paris.")]


def test_other_details_stay_in_the_text(tmp_path: Path) -> None:
    text = "<details><summary>More</summary>text</details>"
    assert said(one(tmp_path, [answer(text)]))[1] == ("assistant", text)


def test_an_answer_kept_as_output_items_is_read(tmp_path: Path) -> None:
    items = [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "Paris."}]}]
    assert said(one(tmp_path, [answer("", output=items)]))[1] == ("assistant", "Paris.")


def test_old_chats_with_a_plain_list_and_a_system_prompt_are_read(tmp_path: Path) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "What is it?"}]
    files = [{"type": "file", "name": "a.pdf"}]
    messages = [
        {"role": "user", "content": picture, "files": files},
        {"role": "assistant", "content": "A cat."},
    ]
    chat = {"id": "w", "title": "t", "chat": {"messages": messages, "params": {"system": "Be brief."}}}
    assert said(one(tmp_path, [chat])) == [
        ("system", "Be brief."),
        ("user", "[file: a.pdf]\n\n[image]\nWhat is it?"),
        ("assistant", "A cat."),
    ]
