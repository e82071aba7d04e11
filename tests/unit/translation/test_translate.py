"""``/v1/translate`` over a gateway and a model that translates by a rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve.errors import QueueFull
from serve.handlers.translation import answers
from serve.protocol.events import Delta, Event, Usage
from serve.protocol.requests import ChatRequest
from tests.unit.gateway.group import settled
from tests.unit.protocol.events import ends_well, frames
from tests.unit.replica.models import Scripted
from tests.unit.tasks.group import TaskGroup, task_group
from tests.unit.translation.models import Speaker, losing, saying, shouted

ROUTE = "/v1/translate"
ASKED: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "model": "m"}


@pytest.fixture
async def model() -> Speaker:
    return Speaker()


@pytest.fixture
async def group(tmp_path: Path, model: Speaker) -> AsyncIterator[TaskGroup]:
    async with task_group(tmp_path, "translation", model) as running:
        yield running


async def translated(group: TaskGroup, text: Any, **fields: Any) -> Any:
    """The whole answer."""
    answer = await group.client.post(ROUTE, json={**ASKED, "text": text, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def text_of(group: TaskGroup, text: str, **fields: Any) -> str:
    """One translated text."""
    [one] = (await translated(group, text, **fields))["translations"]
    found: str = one["text"]
    return found


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


async def test_a_model_that_loses_marks_is_asked_again_and_then_worked_around(
    group: TaskGroup, model: Speaker
) -> None:
    model.rule = losing
    answer = await translated(group, "Give {name} a bag of %d apples.")
    [one] = answer["translations"]
    assert one["text"] == "GIVE {name} A BAG OF %d APPLES."
    assert one["violations"] == [] and "1 passages" in one["notes"][0]
    assert "{0} must be in it exactly once." in model.prompts[1]


async def test_what_a_model_invents_is_not_let_through(group: TaskGroup, model: Speaker) -> None:
    model.rule = lambda request, text: text.upper() + " {other} https://evil.example"
    answer = await translated(group, "Hello there, {name} of the north.")
    assert "evil" not in answer["translations"][0]["text"]
    assert answer["translations"][0]["text"] == "Hello there, {name} of the north."
    assert {one["type"] for one in answer["translations"][0]["violations"]} == {"untranslated"}


async def test_terms_are_checked_guided_once_and_reported(group: TaskGroup, model: Speaker) -> None:
    terms = [{"source": "gateway", "target": "Torweg"}, {"source": "absent", "target": "fehlt"}]
    answer = await translated(group, "The gateway is open.", terms=terms)
    violation = {"type": "term", "source": "gateway", "target": "Torweg"}
    assert answer["translations"][0]["violations"] == [violation]
    assert ['"gateway" is "Torweg"' in prompt for prompt in model.prompts] == [True, True]
    assert "absent" not in model.prompts[0]
    assert '"gateway" must be translated as "Torweg".' in model.prompts[1]

    model.rule = saying("DER TORWEG IST OFFEN.")
    assert (await translated(group, "The gateway is open.", terms=terms))["translations"][0]["violations"] == []


async def test_a_model_that_says_nothing_loses_no_text(group: TaskGroup, model: Speaker) -> None:
    model.rule = saying("")
    [one] = (await translated(group, "Keep <this> sentence, {name}."))["translations"]
    assert one["text"] == "Keep <this> sentence, {name}."
    assert {fault["type"] for fault in one["violations"]} == {"untranslated"}


async def test_what_models_put_around_a_translation_is_taken_off(group: TaskGroup, model: Speaker) -> None:
    for said in (
        "Sure!\nDAS",
        "Translation: DAS",
        '"DAS"',
        "```\nDAS\n```",
        "<think>hm</think>\nDAS",
        "DAS\n\nNote: x",
    ):
        model.rule = saying(said)
        assert await text_of(group, "That thing") == "DAS"


async def test_an_answer_that_is_cut_off_is_asked_for_again_with_more_room(group: TaskGroup, model: Speaker) -> None:
    model.finish = "length"
    [one] = (await translated(group, "Keep this sentence, please."))["translations"]
    assert one["text"] == "Keep this sentence, please."
    assert {fault["type"] for fault in one["violations"]} == {"untranslated"}
    first, second = (sampling.max_tokens for _, sampling in model.asked)
    assert first is not None and second == 2 * first


async def test_chinese_has_room_to_become_longer(group: TaskGroup, model: Speaker) -> None:
    model.rule = saying("မင်္ဂလာပါ")
    await text_of(group, "今天天气很好。" * 20, source_lang="zh", target_lang="my")
    most = model.asked[0][1].max_tokens
    assert most is not None and most > 1400
    await text_of(group, "今天天气真的很好" * 75, source_lang="zh", target_lang="my")
    assert max(sampling.max_tokens or 0 for _, sampling in model.asked) == 8192


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Voici la liste : pommes et poires.", "Here is the list: apples and pears."),
        ("Voici la liste — pommes et poires.", "Here is the list: apples and pears."),
        ("Traduction : Jean Dupont", "Translation: Jean Dupont"),
        ("Cela coûte dix euros !", "It costs\u00a0ten euros\u202f!"),
    ],
)
async def test_words_that_belong_to_a_translation_stay(
    group: TaskGroup, model: Speaker, text: str, said: str
) -> None:
    model.rule = saying(said)
    assert await text_of(group, text, source_lang="fr", target_lang="en") == said


async def test_a_memory_answers_only_where_it_keeps_what_is_kept(group: TaskGroup, model: Speaker) -> None:
    memory = [
        {"source": "Open {name}", "target": "Öffne {name}"},
        {"source": "Close {name}", "target": "Schließe"},
        {"source": "Cats & dogs", "target": "Katzen & <Hunde>"},
    ]
    assert await text_of(group, "Open {name}", tm_list=memory) == "Öffne {name}"
    assert await text_of(group, "Open {Name}", tm_list=memory) == "OPEN {Name}"
    assert await text_of(group, "Close {name}", tm_list=memory) == "CLOSE {name}"
    shown = [{"source": "Cats first", "target": "Katzen < Hunde"}]
    assert await text_of(group, "<p>Cats first</p>", tm_list=shown) == "<p>Katzen &lt; Hunde</p>"


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


async def test_a_lost_number_is_reported(group: TaskGroup, model: Speaker) -> None:
    model.rule = saying("ES KOSTET VIEL.")
    answer = await translated(group, "It costs 1,200 euros.")
    assert answer["translations"][0]["violations"] == [{"type": "number", "source": "1200"}]


async def test_a_memory_answers_what_it_has_and_shows_what_is_near(group: TaskGroup, model: Speaker) -> None:
    memory = [{"source": f"Item number {n} of the list", "target": f"Posten {n}"} for n in range(500)]
    memory.append({"source": "The house is red.", "target": "Das Haus ist rot."})
    assert await text_of(group, "the house is RED.", tm_list=memory) == "Das Haus ist rot."
    assert model.prompts == []
    await text_of(group, "The house is green.", tm_list=memory)
    assert "The house is red. => Das Haus ist rot." in model.prompts[0]
    assert model.prompts[0].count("=>") <= 3


async def test_what_stands_there_twice_is_asked_for_once(group: TaskGroup, model: Speaker) -> None:
    answer = await translated(group, ["Save the file."] * 8)
    assert [one["text"] for one in answer["translations"]] == ["SAVE THE FILE."] * 8
    assert (len(model.prompts), answer["usage"]["completion_tokens"]) == (1, 5)


async def test_domains_are_told(group: TaskGroup, model: Speaker) -> None:
    await text_of(group, "The bank is closed.", domains="About rivers.")
    assert "About the text: About rivers." in model.prompts[0]


async def test_the_same_language_comes_back_with_a_note(group: TaskGroup, model: Speaker) -> None:
    text = "Das ist ein ganz normaler deutscher Satz."
    answer = await translated(group, text, source_lang="auto")
    assert (answer["translations"][0]["text"], model.prompts) == (text, [])
    assert "target language already" in answer["translations"][0]["notes"][-1]


async def test_a_long_text_is_cut_at_sentences_with_its_neighbour_shown(tmp_path: Path) -> None:
    model = Speaker()
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(40))
    settings = {"segment_chars": 200, "context_chars": 60}
    async with task_group(tmp_path, "translation", model, user_config=settings) as group:
        assert await text_of(group, text) == text.upper()
    pieces = [prompt.rpartition("\n\n")[2] for prompt in model.prompts]
    assert len(pieces) == 10 and all(piece.endswith("text.") and len(piece) <= 200 for piece in pieces)
    assert sum('Before it stands, not to be translated: "' in prompt for prompt in model.prompts) == 9


async def test_a_small_context_makes_pieces_smaller(tmp_path: Path) -> None:
    model = Speaker(context=1024)
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(40))
    async with task_group(tmp_path, "translation", model) as group:
        await text_of(group, text)
    assert max(len(prompt.rpartition("\n\n")[2]) for prompt in model.prompts) <= (1024 - 512) // 4


async def test_a_stream_comes_in_order_and_tells_the_outcome(group: TaskGroup) -> None:
    body = {**ASKED, "text": ["One {x}.\nTwo.", "Three."], "stream": True}
    answer = await group.client.post(ROUTE, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = frames(answer.content)
    assert ends_well(answer.content)
    texts: dict[int, str] = {}
    for chunk in chunks[:-1]:
        texts[chunk["index"]] = texts.get(chunk["index"], "") + chunk["text"]
    assert texts == {0: "ONE {x}.\nTWO.", 1: "THREE."}
    outcomes = [chunk for chunk in chunks if chunk.get("finish_reason") == "stop"]
    assert [(one["index"], one["source_lang"], one["violations"]) for one in outcomes] == [
        (0, "en", []),
        (1, "en", []),
    ]
    assert chunks[-1]["usage"]["completion_tokens"] == 15


@pytest.mark.parametrize("path", [ROUTE, "/v1/chat/completions"])
async def test_a_stream_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(answers, "SIGN_SECONDS", 0.02)
    go_on = asyncio.Event()
    ends: list[Event] = [Delta(text="HALLO"), Delta(finish_reason="stop"), Usage(1, 1)]
    options = {"source_lang": "en", "target_lang": "de"}
    body: dict[str, Any] = {**ASKED, "text": "Hello."}
    if path != ROUTE:
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello."}], "translation_options": options}
    async with (
        task_group(tmp_path, "translation", Scripted(go_on, ends)) as group,
        group.client.stream("POST", path, json={**body, "stream": True}) as answer,
    ):
        assert answer.status_code == 200 and not go_on.is_set()
        go_on.set()
        content = await answer.aread()
    assert ends_well(content) and b"HALLO" in content


async def test_pieces_of_a_long_text_are_streamed_one_by_one(tmp_path: Path) -> None:
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(12))
    async with task_group(tmp_path, "translation", Speaker(), user_config={"segment_chars": 100}) as group:
        answer = await group.client.post(ROUTE, json={**ASKED, "text": text, "stream": True})
    parts = [chunk["text"] for chunk in frames(answer.content) if chunk.get("text")]
    assert len(parts) == 6 and "".join(parts) == text.upper()


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


async def test_a_file_comes_back_as_a_file(group: TaskGroup) -> None:
    content = "# Title\n\nSome [text](x.md).\n\n```sh\nls\n```\n"
    files = {"file": ("docs/guide.md", content.encode(), "text/markdown")}
    answer = await group.client.post(ROUTE, data={"target_lang": "German", "source_lang": "en"}, files=files)
    assert answer.status_code == 200, answer.text
    assert answer.text == "# TITLE\n\nSOME [TEXT](x.md).\n\n```sh\nls\n```\n"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''guide.de.md"
    assert answer.headers["x-groupqwen-violations"] == "0"


async def test_a_file_can_be_answered_with_a_report(group: TaskGroup) -> None:
    terms = json.dumps([{"source": "house", "target": "Haus"}])
    form = {"target_lang": "de", "source_lang": "en", "answer": "json", "terms": terms}
    files = {"file": ("a.txt", b"A house is here.", "text/plain")}
    answer = (await group.client.post(ROUTE, data=form, files=files)).json()
    assert answer["filename"] == "a.de.txt"
    assert answer["translations"][0]["violations"] == [{"type": "term", "source": "house", "target": "Haus"}]


@pytest.mark.parametrize(
    ("name", "content", "form", "words"),
    [
        ("a.docx", b"x", {"target_lang": "de"}, "unknown ending '.docx'"),
        ("a.txt", b"", {"target_lang": "de"}, "the file is empty"),
        ("a.txt", b"\xff\xfe", {"target_lang": "de"}, "must be text in UTF-8; byte 0"),
        ("a.txt", b"x", {}, "target_lang"),
        ("a.txt", b"x", {"target_lang": "de", "terms": "nonsense"}, "terms: must be a JSON list"),
        ("a.txt", b"x", {"target_lang": "de", "color": "red"}, "unknown key"),
    ],
)
async def test_a_bad_form_says_what_is_wrong(
    group: TaskGroup, name: str, content: bytes, form: dict[str, str], words: str
) -> None:
    answer = await group.client.post(ROUTE, data=form, files={"file": (name, content)})
    assert answer.status_code == 400 and words in answer.json()["error"]["message"], answer.text


async def test_a_chat_with_translation_options_is_translated(group: TaskGroup, model: Speaker) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Keep {this} please."}],
        "translation_options": {"source_lang": "English", "target_lang": "German"},
    }
    whole = await group.client.post("/v1/chat/completions", json=body)
    choice = whole.json()["choices"][0]
    assert choice["message"]["content"] == "KEEP {this} PLEASE." and choice["finish_reason"] == "stop"
    streamed = await group.client.post(
        "/v1/chat/completions", json={**body, "stream": True, "stream_options": {"include_usage": True}}
    )
    *chunks, usage = frames(streamed.content)
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)
    assert text == "KEEP {this} PLEASE." and ends_well(streamed.content)
    assert usage["usage"]["total_tokens"] == 15


async def test_translation_options_take_one_user_message(group: TaskGroup) -> None:
    options = {"target_lang": "de"}
    for roles in (["system", "user"], ["user", "user"], ["assistant"]):
        messages = [{"role": role, "content": "x"} for role in roles]
        body = {"model": "m", "messages": messages, "translation_options": options}
        answer = await group.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "messages", answer.text


async def test_a_stored_translation_is_kept(group: TaskGroup) -> None:
    body = {
        "model": "m",
        "store": True,
        "messages": [{"role": "user", "content": "Hello there."}],
        "translation_options": {"target_lang": "de", "source_lang": "en"},
    }
    await group.client.post("/v1/chat/completions", json=body)
    [kept] = (await group.client.get("/v1/conversations")).json()["data"]
    assert kept["choices"][0]["message"]["content"] == "HELLO THERE."


async def test_qwen_mt_gets_its_own_options_and_the_bare_text(tmp_path: Path) -> None:
    def checked(request: ChatRequest, text: str) -> str:
        assert request.translation_options is not None
        assert request.translation_options.target_lang == "German"
        return shouted(request, text)

    model = Speaker(checked, id="qwen-mt-flash")
    async with task_group(tmp_path, "translation", model) as group:
        text = await text_of(group, "Good {name}.", model="qwen-mt-flash", domains="Names.")
    assert (text, model.prompts) == ("GOOD {name}.", ["Good"])


async def test_new_behaviour_counts_from_the_next_request(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", Speaker(losing)) as group:
        settings = type(group.handler.behaviour)
        group.handler.behaviour = settings.model_validate({"retries": 0, "model": "m"})
        answer = await group.client.post(ROUTE, json={"text": "A {x} b.", "source_lang": "en", "target_lang": "de"})
    assert answer.json()["translations"][0]["text"] == "A {x} B."
