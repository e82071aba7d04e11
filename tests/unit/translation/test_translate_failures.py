"""Pieces that the model cannot be asked for: what stays, what is reported, and when the request fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve.errors import Forbidden, UpstreamFailed
from serve.handlers.translation.memory import Memory
from serve.protocol.requests import ChatRequest
from tests.unit.protocol.events import ends_well, frames
from tests.unit.tasks.group import TaskGroup, task_group
from tests.unit.translation.asking import ASKED, ROUTE, translated
from tests.unit.translation.models import Speaker, losing

BROKEN = UpstreamFailed("The model broke.")
FILE = "# A title\n\nA line\ngoes on.\n\nThe bad <b>&lt;line&gt;</b> here.\n\nThe end.\n"


def failing(request: ChatRequest, text: str) -> str:
    """A model that breaks on some texts."""
    if "bad" in text:
        raise BROKEN
    return text.upper()


@pytest.fixture
async def model() -> Speaker:
    return Speaker(failing)


@pytest.fixture
async def group(tmp_path: Path, model: Speaker) -> AsyncIterator[TaskGroup]:
    async with task_group(tmp_path, "translation", model, user_config={"parallel": 2}) as running:
        yield running


def failed(source: str, segment: int, line: int) -> dict[str, Any]:
    """What the answer says of a piece that failed."""
    place = {"segment": segment, "line": line}
    return {"type": "failed", "source": source, **place, "reason": BROKEN.message, "code": "upstream_failed"}


async def test_a_piece_that_fails_stays_as_it_is_and_is_reported_with_its_place(group: TaskGroup) -> None:
    [one] = (await translated(group, FILE, format="markdown"))["translations"]
    assert one["text"] == FILE.upper().replace(
        "THE BAD <B>&LT;LINE&GT;</B> HERE.", "The bad <b>&lt;line&gt;</b> here."
    )
    [violation] = one["violations"]
    assert violation == failed("The bad <b>&lt;line&gt;</b> here.", 2, 6)


async def test_a_file_comes_back_with_what_was_translated_of_it(group: TaskGroup) -> None:
    form = {"target_lang": "de", "source_lang": "en", "model": "m"}
    files = {"file": ("a.txt", b"A good line.\nA bad line.\nThe end.\n", "text/plain")}
    answer = await group.client.post(ROUTE, data=form, files=files)
    assert (answer.status_code, answer.text) == (200, "A GOOD LINE.\nA bad line.\nTHE END.\n")
    assert (answer.headers["x-groupqwen-failed"], answer.headers["x-groupqwen-violations"]) == ("1", "1")
    strict = await group.client.post(ROUTE, data={**form, "strict": "true"}, files=files)
    assert (strict.status_code, strict.json()["error"]["message"]) == (502, BROKEN.message)


async def test_of_many_texts_only_the_one_that_fails_is_left(group: TaskGroup) -> None:
    answer = await translated(group, ["A bad text.", "A good text.", "Another good text."])
    assert [one["text"] for one in answer["translations"]] == ["A bad text.", "A GOOD TEXT.", "ANOTHER GOOD TEXT."]
    assert [one["violations"] for one in answer["translations"]] == [[failed("A bad text.", 0, 1)], [], []]


async def test_a_stream_goes_on_behind_a_piece_that_fails(group: TaskGroup) -> None:
    body = {**ASKED, "text": ["A bad text.\nA good text."], "stream": True}
    answer = await group.client.post(ROUTE, json=body)
    chunks = frames(answer.content)
    assert "".join(chunk.get("text", "") for chunk in chunks) == "A bad text.\nA GOOD TEXT."
    [outcome] = [chunk for chunk in chunks if chunk.get("finish_reason") == "stop"]
    assert outcome["violations"] == [failed("A bad text.", 0, 1)] and ends_well(answer.content)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_of_which_everything_fails_has_the_models_error(group: TaskGroup, stream: bool) -> None:
    body = {**ASKED, "text": ["A bad text.", "Another bad text."], "stream": stream}
    answer = await group.client.post(ROUTE, json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, BROKEN.message)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_strict_request_fails_with_its_first_piece(group: TaskGroup, stream: bool) -> None:
    body = {**ASKED, "text": ["A bad text.", "A good text."], "strict": True, "stream": stream}
    answer = await group.client.post(ROUTE, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")


async def test_a_chat_completion_fails_with_a_piece_because_it_cannot_say_so(group: TaskGroup) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "A bad text.\nA good text."}],
        "translation_options": {"source_lang": "en", "target_lang": "de"},
    }
    answer = await group.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, BROKEN.message)


async def test_a_model_that_is_lost_is_not_asked_for_the_rest(group: TaskGroup, model: Speaker) -> None:
    texts = ["A good text.", *(f"A bad text number {n}." for n in range(30)), "Another good text."]
    answer = await translated(group, texts)
    assert [one["text"] for one in answer["translations"]] == ["A GOOD TEXT.", *texts[1:]]
    # Four in a row are enough, and the second of two at once may be under way by then.
    assert len(model.prompts) <= 6
    assert [len(one["violations"]) for one in answer["translations"]] == [0, *[1] * 31]


async def test_what_no_other_piece_would_be_answered_better_is_asked_once(group: TaskGroup, model: Speaker) -> None:
    def refusing(request: ChatRequest, text: str) -> str:
        raise Forbidden("Not for you.")

    model.rule = refusing
    answer = await group.client.post(ROUTE, json={**ASKED, "text": [f"Text number {n}." for n in range(20)]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (403, "Not for you.")
    assert len(model.prompts) <= 2


async def test_what_stands_there_often_fails_once(group: TaskGroup, model: Speaker) -> None:
    answer = await translated(group, [*["A bad text."] * 12, "A good text."])
    assert answer["translations"][-1]["text"] == "A GOOD TEXT." and len(model.prompts) == 2


async def test_texts_that_fail_in_turn_fail_once_each(group: TaskGroup, model: Speaker) -> None:
    good = [f"Good text number {n}." for n in range(8)]
    answer = await translated(group, [*["Yes, bad.", "No, bad."] * 6, *good])
    assert [one["text"] for one in answer["translations"][12:]] == [text.upper() for text in good]
    assert len(model.prompts) == 2 + len(good)


async def test_what_failed_is_asked_for_again_once_something_else_was_translated(
    group: TaskGroup, model: Speaker
) -> None:
    def at_first(request: ChatRequest, text: str) -> str:
        if len(model.prompts) == 1:
            raise BROKEN
        return text.upper()

    model.rule = at_first
    texts = ["Yes.", "Yes.", *(f"Text number {n}." for n in range(4)), "Yes."]
    answer = await translated(group, texts)
    assert [one["text"] for one in answer["translations"]] == [*texts[:2], *(text.upper() for text in texts[2:])]


async def test_an_entry_of_a_catalogue_that_fails_stays_as_it_was(group: TaskGroup) -> None:
    head, good = '# Of a project.\nmsgid ""\nmsgstr "Language: de\\n"\n\n', 'msgid "A good one."\nmsgstr ""\n\n'
    left = [
        '# Of a translator.\n#, fuzzy, c-format\nmsgid "A bad line of %d."\nmsgstr "Ein Entwurf: %d."\n\n',
        'msgid "A bad line."\nmsgstr ""\n\n',
        'msgid ""\n"A good line.\\n"\n"A bad end."\nmsgstr ""\n\n',
        'msgid "one"\nmsgid_plural "all are bad"\nmsgstr[0] ""\nmsgstr[1] ""\n',
    ]
    [one] = (await translated(group, head + good + "".join(left), format="po"))["translations"]
    assert one["text"] == head + good.replace('msgstr ""', 'msgstr "A GOOD ONE."') + "".join(left)
    assert [(found["type"], found["line"]) for found in one["violations"]] == [
        ("failed", 8),
        ("failed", 13),
        ("failed", 16),
        ("failed", 21),
    ]


async def test_an_entry_of_a_catalogue_without_a_translation_stays_fuzzy(group: TaskGroup, model: Speaker) -> None:
    model.rule = lambda request, text: text
    text = '#\nmsgid ""\nmsgstr ""\n\n#, fuzzy\nmsgid "All of this stays."\nmsgstr "Ein Entwurf."\n'
    [one] = (await translated(group, text, format="po"))["translations"]
    assert (one["text"], one["violations"]) == (text, [{"type": "untranslated", "source": "All of this stays."}])


async def test_what_the_memory_has_comes_back_where_the_model_fails_at_the_rest(group: TaskGroup) -> None:
    memory = [{"source": "Yes, please.", "target": "Ja, bitte."}, {"source": "No, thanks.", "target": "Nein, danke."}]
    answer = await translated(group, ["Yes, please.", "A bad text.", "No, thanks."], tm_list=memory)
    assert [one["text"] for one in answer["translations"]] == ["Ja, bitte.", "A bad text.", "Nein, danke."]
    assert [one["violations"] for one in answer["translations"]] == [[], [failed("A bad text.", 0, 1)], []]


async def test_a_lost_model_is_given_up_although_the_memory_answers(group: TaskGroup, model: Speaker) -> None:
    texts = [text for n in range(20) for text in ("Yes, please.", f"A bad text number {n}.")]
    memory = [{"source": "Yes, please.", "target": "Ja, bitte."}]
    answer = await translated(group, texts, tm_list=memory)
    assert [one["text"] for one in answer["translations"][:4]] == ["Ja, bitte.", texts[1], "Ja, bitte.", texts[3]]
    assert len(model.prompts) <= 6


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_task_itself_ends_a_request_that_waits_with_a_failed_passage(
    group: TaskGroup, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def broken(memory: Memory, text: str) -> None:
        if "good" in text:
            raise ZeroDivisionError

    monkeypatch.setattr(Memory, "exact", broken)
    body = {**ASKED, "text": "A bad text.\nA good text.", "stream": stream}
    async with asyncio.timeout(10):
        answer = await group.client.post(ROUTE, json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, BROKEN.message)


async def test_what_a_passage_took_counts_although_a_part_of_it_fails_late(group: TaskGroup, model: Speaker) -> None:
    def late(request: ChatRequest, text: str) -> str:
        return losing(request, text) if "{0}" in text else failing(request, text)

    model.rule = late
    text = "A good part {name} and a bad part."
    answer = await translated(group, text)
    [one] = answer["translations"]
    assert one["text"] == "A GOOD PART {name} and a bad part."
    assert one["violations"] == [{"type": "untranslated", "source": "and a bad part."}]
    assert answer["usage"]["completion_tokens"] == 5 * (len(model.prompts) - 1)
    strict = await group.client.post(ROUTE, json={**ASKED, "text": text, "strict": True})
    assert (strict.status_code, strict.json()["error"]["message"]) == (502, BROKEN.message)


@pytest.mark.parametrize(
    ("good", "text", "format"),
    [
        ("A good one.\n\n", "A bad line, longer\nthan\n  &eacute; of it.\\\nAnd a bad one\nor so.", "markdown"),
        ("A good one.\n\n", "> 2024\n> was a bad year that was\n> long.\n", "markdown"),
        ("<p>A good one.</p>\n", "<p>A bad line that is\n  longer\nthan caf&eacute; &lt;it&gt;\n</p>\n", "html"),
        (
            "1\n00:00:00,000 --> 00:00:01,000\nA good one.\n\n",
            "2\n00:00:01,000 --> 00:00:02,000\nA bad line that is long,\nis it.\n- Yes, bad\nthat it is.\n",
            "srt",
        ),
    ],
)
async def test_a_passage_of_several_lines_that_fails_stays_byte_for_byte(
    group: TaskGroup, good: str, text: str, format: str
) -> None:
    [one] = (await translated(group, good + text, format=format))["translations"]
    assert one["text"] == good.replace("A good one.", "A GOOD ONE.") + text
    assert {found["type"] for found in one["violations"]} == {"failed"}


async def test_a_passage_of_which_one_piece_fails_keeps_what_was_translated_of_it(group: TaskGroup) -> None:
    good = "A good sentence of this. " * 40
    text = f"{good}\nA bad sentence of it. {good}".rstrip()
    [one] = (await translated(group, text, format="markdown"))["translations"]
    words = " ".join(one["text"].split())
    assert words.startswith("A GOOD SENTENCE OF THIS.") and "A bad sentence of it." in words
    assert one["text"].count("\n") == 1 and len(one["violations"]) == 1


async def test_an_answer_with_faults_is_kept_where_the_next_one_fails(group: TaskGroup, model: Speaker) -> None:
    def once(request: ChatRequest, text: str) -> str:
        if len(model.prompts) > 1:
            raise BROKEN
        return "ES KOSTET VIEL."

    model.rule = once
    [one] = (await translated(group, "It costs 1,200 euros."))["translations"]
    assert (one["text"], one["violations"]) == ("ES KOSTET VIEL.", [{"type": "number", "source": "1200"}])
