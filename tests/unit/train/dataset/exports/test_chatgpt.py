"""ChatGPT's conversations: branches, hidden messages, tools, pictures, and the odd cases seen in the wild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.dataset.exports.samples import Json, chatgpt, chatgpt_chat, chatgpt_node, events, said, write
from train.dataset.exports.problems import Reason
from train.dataset.rows import Row


def one(tmp_path: Path, conversation: Json, **options: Any) -> Row:
    rows, problems = events(write(tmp_path / "c.json", [conversation]), **options)
    assert problems == []
    return rows[0]


def content(kind: str, **fields: Any) -> Json:
    return {"content": {"content_type": kind, **fields}}


def chain(*messages: dict[str, Json]) -> Json:
    return chatgpt(chatgpt_node("root", None), *messages)


def test_a_plain_chat_has_its_times_model_and_title_and_no_empty_system_message(tmp_path: Path) -> None:
    row = one(tmp_path, chatgpt_chat())
    assert said(row) == [("user", "What is the capital of France?"), ("assistant", "Paris.")]
    assert (row.id, row.model, row.provenance.title) == ("chatgpt:c1", "gpt-4o", "Paris")
    assert row.created_at is not None
    assert row.created_at.isoformat() == "2024-05-06T12:53:20.250000+00:00"
    assert row.provenance.times is not None
    assert len(row.provenance.times) == 2


FORKED = chatgpt(
    chatgpt_node("root", None),
    chatgpt_node("u", "root", "user", "Capital?"),
    chatgpt_node("a1", "u", "assistant", "London."),
    chatgpt_node("a2", "u", "assistant", "Paris."),
    chatgpt_node("u2", "a1", "user", "Sure?"),
    chatgpt_node("a3", "u2", "assistant", "No."),
    current="a2",
)


def test_the_branch_that_the_user_saw_last_ends_at_current_node(tmp_path: Path) -> None:
    assert said(one(tmp_path, FORKED)) == [("user", "Capital?"), ("assistant", "Paris.")]


def test_every_branch_is_a_row_of_its_own_when_asked_for(tmp_path: Path) -> None:
    rows, _ = events(write(tmp_path / "c.json", [FORKED]), every_branch=True)
    assert [row.id for row in rows] == ["chatgpt:c1", "chatgpt:c1#a3"]
    assert said(rows[1])[-1] == ("assistant", "No.")
    assert [row.provenance.branch for row in rows] == [None, "a3"]


@pytest.mark.parametrize("current", ["gone", None, 7])
def test_without_a_usable_current_node_the_last_leaf_is_taken(tmp_path: Path, current: object) -> None:
    assert said(one(tmp_path, {**FORKED, "current_node": current}))[-1] == ("assistant", "No.")


def test_hidden_messages_and_custom_instructions_are_left_out_and_counted(tmp_path: Path) -> None:
    hidden = {"metadata": {"is_visually_hidden_from_conversation": True}}
    chat = chain(
        chatgpt_node("x", "root", "user", "", **content("user_editable_context", user_profile="I am Ada.")),
        chatgpt_node("y", "x", "system", "secret", **hidden),
        chatgpt_node("u", "y", "user", "Hi"),
        chatgpt_node("w", "u", "assistant", "unseen", weight=0.0),
        chatgpt_node("a", "w", "assistant", "Hello"),
    )
    row = one(tmp_path, chat)
    assert said(row) == [("user", "Hi"), ("assistant", "Hello")]
    assert row.provenance.dropped == {"hidden_context": 1, "hidden_message": 2}
    assert said(one(tmp_path, chat, keep_hidden=True))[0] == ("system", "I am Ada.")


def test_code_for_a_tool_becomes_a_call_with_its_output_as_answer(tmp_path: Path) -> None:
    python = {"author": {"role": "tool", "name": "python", "metadata": {}}}
    row = one(
        tmp_path,
        chain(
            chatgpt_node("u", "root", "user", "2**10?"),
            chatgpt_node("c", "u", "assistant", "", **content("code", text="2**10"), recipient="python"),
            chatgpt_node("t", "c", "tool", "", **content("execution_output", text="1024"), **python),
            chatgpt_node("a", "t", "assistant", "It is 1024."),
        ),
    )
    assert said(row) == [("user", "2**10?"), ("assistant", None), ("tool", "1024"), ("assistant", "It is 1024.")]
    assert row.messages[1].tool_calls is not None
    call = row.messages[1].tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("python", '{"input":"2**10"}')
    assert row.messages[2].tool_call_id == call.id


def test_a_call_that_was_never_answered_is_left_out_and_counted(tmp_path: Path) -> None:
    row = one(
        tmp_path,
        chain(
            chatgpt_node("u", "root", "user", "Remember me."),
            chatgpt_node("c", "u", "assistant", '{"a": 1}', recipient="web.run"),
            chatgpt_node("a", "c", "assistant", "I will."),
        ),
    )
    assert said(row) == [("user", "Remember me."), ("assistant", "I will.")]
    assert row.provenance.dropped == {"call_without_answer": 1}


def test_thoughts_become_reasoning_of_the_answer_and_recaps_go(tmp_path: Path) -> None:
    thoughts = [{"summary": "France", "content": "Its capital is Paris."}]
    row = one(
        tmp_path,
        chain(
            chatgpt_node("u", "root", "user", "Capital?"),
            chatgpt_node("t", "u", "assistant", "", **content("thoughts", thoughts=thoughts)),
            chatgpt_node("r", "t", "assistant", "", **content("reasoning_recap", content="Thought for 8s")),
            chatgpt_node("a", "r", "assistant", "Paris."),
        ),
    )
    assert row.messages[1].reasoning_content == "France\nIts capital is Paris."
    assert row.messages[1].content == "Paris."


def test_pictures_recordings_and_files_become_marks(tmp_path: Path) -> None:
    parts = [
        {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1", "width": 10},
        {"content_type": "audio_transcription", "text": "What is this?"},
        {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://2"},
        None,
    ]
    files = [{"name": "a.pdf", "mime_type": "application/pdf"}, {"name": "b.png", "mime_type": "image/png"}]
    chat = chain(
        chatgpt_node(
            "u", "root", "user", "", **content("multimodal_text", parts=parts), metadata={"attachments": files}
        ),
        chatgpt_node("a", "u", "assistant", "A cat."),
    )
    assert said(one(tmp_path, chat))[0] == ("user", "[file: a.pdf]\n[image]\nWhat is this?")


def test_marks_of_citations_go_out_of_answers(tmp_path: Path) -> None:
    chat = chatgpt_chat(said="Paris \ue200cite\ue202turn0search1\ue201is it【12†source】.")
    assert said(one(tmp_path, chat))[1] == ("assistant", "Paris is it.")


@pytest.mark.parametrize("text", ["👩‍👩‍👧‍👦 ok", "שלום עולם", "\u202eabc", "ﷺ" * 1000, "a\tb\n\nc"])
def test_emoji_and_right_to_left_text_stay_as_they_are(tmp_path: Path, text: str) -> None:
    assert said(one(tmp_path, chatgpt_chat(asked=text)))[0] == ("user", text)


def test_nul_and_half_surrogate_pairs_become_replacement_characters(tmp_path: Path) -> None:
    assert said(one(tmp_path, chatgpt_chat(asked="a\x00b\ud800c")))[0] == ("user", "a\ufffdb\ufffdc")


def test_a_missing_parent_begins_the_branch_and_is_counted(tmp_path: Path) -> None:
    row = one(tmp_path, chatgpt(chatgpt_node("u", "gone", "user", "Hi"), chatgpt_node("a", "u", "assistant", "Ho")))
    assert row.provenance.dropped == {"missing_parent": 1}


def test_a_message_that_is_its_own_ancestor_is_a_problem(tmp_path: Path) -> None:
    cyclic = chatgpt(chatgpt_node("u", "a", "user", "Hi"), chatgpt_node("a", "u", "assistant", "Ho"))
    rows, (problem,) = events(write(tmp_path / "c.json", [cyclic, chatgpt_chat("c2")]))
    assert (problem.reason, problem.place.number) == (Reason.BROKEN_TREE, 1)
    assert [row.id for row in rows] == ["chatgpt:c2"]


@pytest.mark.parametrize(
    "broken",
    [
        {"message": {}},
        {"message": {"author": None, "content": None}},
        {"message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": None}}},
        {"message": {"author": "user", "content": "text"}},
        {"message": 5},
        None,
        7,
    ],
)
def test_a_message_with_nothing_usable_in_it_is_passed_over(tmp_path: Path, broken: Any) -> None:
    chat = chatgpt_chat()
    chat["mapping"]["s"] = {"id": "s", "parent": "root", **broken} if isinstance(broken, dict) else broken
    assert said(one(tmp_path, chat))[-1] == ("assistant", "Paris.")


def test_an_empty_chat_and_one_without_an_answer_are_skipped_and_no_faults(tmp_path: Path) -> None:
    empty = chatgpt(chatgpt_node("root", None))
    asked = chatgpt(chatgpt_node("root", None), chatgpt_node("u", "root", "user", "Hi"), id="c2")
    rows, problems = events(write(tmp_path / "c.json", [empty, asked]))
    assert rows == []
    assert [problem.reason for problem in problems] == [Reason.EMPTY, Reason.NO_ANSWER]
    assert not any(problem.reason.fault for problem in problems)


def test_a_giant_message_is_a_problem_that_says_the_limit_and_not_the_text(tmp_path: Path) -> None:
    rows, (problem,) = events(write(tmp_path / "c.json", [chatgpt_chat(asked="word " * 500_000), chatgpt_chat("c2")]))
    assert problem.reason is Reason.MESSAGE_SIZE
    assert "at most 2000000" in problem.detail
    assert "word" not in str(problem)
    assert [row.id for row in rows] == ["chatgpt:c2"]
