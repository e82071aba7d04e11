"""``/v1/translate`` over a gateway and a model that translates by a rule: texts, languages, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve.errors import QueueFull
from tests.unit.gateway.group import settled
from tests.unit.replica.models import Scripted
from tests.unit.tasks.group import TaskGroup, task_group
from tests.unit.translation.asking import ASKED, ROUTE, text_of, translated
from tests.unit.translation.models import Speaker, losing


async def test_a_text_is_translated_and_its_tokens_are_counted(group: TaskGroup) -> None:
    answer = await translated(group, "Good morning, my friend.", source_lang="auto")
    [one] = answer["translations"]
    assert (answer["object"], answer["model"], answer["target_lang"]) == ("translation", "m", "de")
    assert (one["text"], one["source_lang"], one["violations"]) == ("GOOD MORNING, MY FRIEND.", "en", [])
    assert answer["usage"]["total_tokens"] == 15


async def test_many_texts_come_back_in_their_order(group: TaskGroup) -> None:
    texts = [f"This is text number {n}." for n in range(20)]
    answer = await translated(group, texts)
    assert [one["text"] for one in answer["translations"]] == [text.upper() for text in texts]
    assert [one["index"] for one in answer["translations"]] == list(range(20))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Hello {name}, you have %d messages.", "HELLO {name}, YOU HAVE %d MESSAGES."),
        ("  two spaces\t\n\n and lines  \n", "  TWO SPACES\t\n\n AND LINES  \n"),
        ("see https://a.example/x?y=1, please", "SEE https://a.example/x?y=1, PLEASE"),
        ("a smile 😀 and a family 👨‍👩‍👧", "A SMILE 😀 AND A FAMILY 👨‍👩‍👧"),
        ("set $HOME and ${x} to {{y}}", "SET $HOME AND ${x} TO {{y}}"),
        ("**bold** and [a link](b.md) in `code`", "**BOLD** AND [A LINK](b.md) IN `code`"),
        ("<p>a <b class='x'>tag</b> here</p>", "<p>A <b class='x'>TAG</b> HERE</p>"),
        ("{only} %s 12", "{only} %s 12"),
        ("", ""),
        ("مرحبا {name} بك", "مرحبا {name} بك"),
    ],
)
async def test_form_is_kept(group: TaskGroup, text: str, kept: str) -> None:
    assert await text_of(group, text, source_lang="fr" if text else "auto") == kept


async def test_a_guess_leaves_no_text_untranslated(group: TaskGroup, model: Speaker) -> None:
    for text in ("Details", "Menu", "Name"):
        assert await text_of(group, text, source_lang="auto") == text.upper()
    assert all("from German to German" not in prompt for prompt in model.prompts)


async def test_of_a_mixed_text_only_the_foreign_part_is_translated(group: TaskGroup, model: Speaker) -> None:
    german = "Das ist ein ganz normaler deutscher Satz, den jeder versteht."
    english = "This is an ordinary English sentence that everybody understands."
    text = f"{german}\n{english}\n{german}\n"
    assert await text_of(group, text, source_lang="auto") == f"{german}\n{english.upper()}\n{german}\n"
    assert ["from English to German" in prompt for prompt in model.prompts] == [True]


async def test_the_passages_of_a_mixed_text_that_stay_keep_their_lines(group: TaskGroup) -> None:
    german = "Das ist ein ganz\nnormaler deutscher Satz mit einem &Uuml;, den jeder hier sofort\nversteht."
    english = "This is an ordinary English sentence that everybody understands."
    found = await text_of(group, f"{german}\n\n{english}\n", source_lang="auto", format="markdown")
    assert found == f"{german}\n\n{english.upper()}\n"


async def test_what_stands_there_twice_is_asked_for_once(group: TaskGroup, model: Speaker) -> None:
    answer = await translated(group, ["Save the file."] * 8)
    assert [one["text"] for one in answer["translations"]] == ["SAVE THE FILE."] * 8
    assert (len(model.prompts), answer["usage"]["completion_tokens"]) == (1, 5)


async def test_the_same_language_comes_back_with_a_note(group: TaskGroup, model: Speaker) -> None:
    text = "Das ist ein ganz normaler deutscher Satz."
    answer = await translated(group, text, source_lang="auto")
    assert (answer["translations"][0]["text"], model.prompts) == (text, [])
    assert "target language already" in answer["translations"][0]["notes"][-1]


async def test_a_client_that_leaves_stops_the_model(tmp_path: Path) -> None:
    model = Scripted(asyncio.Event())
    async with task_group(tmp_path, "translation", model) as group:
        asking = asyncio.create_task(group.client.post(ROUTE, json={**ASKED, "text": [f"a b {n}" for n in range(9)]}))
        await settled(lambda: model.active == 4)
        asking.cancel()
        await settled(lambda: model.active == 0)


async def test_a_models_failure_is_the_answer(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Scripted(QueueFull("m", retry_after=0))) as group:
        answer = await group.client.post(ROUTE, json={**ASKED, "text": "Hello there."})
        unknown = await group.client.post(ROUTE, json={**ASKED, "text": "Hello there.", "model": "none"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"target_lang": "klingon"}, 400, "unknown language 'klingon'"),
        ({"target_lang": "Germn"}, 400, "the nearest are German (de)"),
        ({"source_lang": "xx"}, 400, "source_lang: unknown language"),
        ({"target_lang": None}, 400, "target_lang"),
        ({"text": []}, 400, "text"),
        ({"text": ["x"] * 513}, 400, "513 texts; the most allowed is 512"),
        ({"text": "x" * 400_001}, 413, "400001 characters"),
        ({"text": "{", "format": "json"}, 400, "not valid JSON"),
        ({"text": "no cue", "format": "srt"}, 400, "no subtitles"),
        ({"terms": [{"source": "a"}]}, 400, "terms[0].target"),
        ({"tm_list": [{"source": "a" * 10_000, "target": "b"}] * 100}, 413, "tm_list: 1000100 characters"),
        ({"text": "[" * 100_000, "format": "json"}, 400, "nested too deep"),
        ({"txt": "x"}, 400, "unknown key"),
    ],
)
async def test_a_bad_request_names_the_field(
    group: TaskGroup, model: Speaker, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = await group.client.post(ROUTE, json={**ASKED, "text": "Hello.", **fields})
    assert answer.status_code == status and words in answer.json()["error"]["message"], answer.text
    assert model.prompts == []


async def test_new_behaviour_counts_from_the_next_request(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Speaker(losing)) as group:
        settings = type(group.handler.behaviour)
        group.handler.behaviour = settings.model_validate({"retries": 0, "model": "m"})
        answer = await group.client.post(ROUTE, json={"text": "A {x} b.", "source_lang": "en", "target_lang": "de"})
    assert answer.json()["translations"][0]["text"] == "A {x} B."
