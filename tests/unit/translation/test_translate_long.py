"""Long texts: where they are cut, so that everything fits into a model's context, and what is shown of neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve.protocol.requests import ChatRequest
from tests.unit.tasks.group import task_group
from tests.unit.translation.asking import ASKED, ROUTE, text_of, translated
from tests.unit.translation.models import Speaker


async def test_a_long_text_is_cut_at_sentences_with_its_neighbours_shown(tmp_path: Path) -> None:
    model = Speaker()
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(40))
    settings = {"segment_chars": 200, "context_chars": 60}
    async with task_group(tmp_path, "translation", model, user_config=settings) as group:
        assert await text_of(group, text) == text.upper()
    pieces = [prompt.rpartition("\n\n")[2] for prompt in model.prompts]
    assert len(pieces) == 10 and all(piece.endswith("text.") and len(piece) <= 200 for piece in pieces)
    assert sum('Before it stands, not to be translated: "' in prompt for prompt in model.prompts) == 9
    assert sum('After it stands, not to be translated: "' in prompt for prompt in model.prompts) == 9


async def test_neighbours_are_the_nearest_text_within_their_bound(tmp_path: Path) -> None:
    model = Speaker()
    async with task_group(tmp_path, "translation", model, user_config={"context_chars": 20}) as group:
        await text_of(group, "The first line is long.\nHere.\nThe last line is long, too.")
    [asked] = [prompt for prompt in model.prompts if prompt.endswith("\n\nHere.")]
    assert 'Before it stands, not to be translated: "first line is long."' in asked
    assert 'After it stands, not to be translated: "The last line is"' in asked


async def test_no_neighbours_are_shown_where_none_are_wanted(tmp_path: Path) -> None:
    model = Speaker()
    async with task_group(tmp_path, "translation", model, user_config={"context_chars": 0}) as group:
        await text_of(group, "One thing.\nAnother thing.\nA third thing.")
    assert len(model.prompts) == 3 and not any("it stands" in prompt for prompt in model.prompts)


async def test_a_model_that_translates_its_neighbours_is_asked_again_without_them(tmp_path: Path) -> None:
    def distracted(request: ChatRequest, text: str) -> str:
        prompt = request.messages[0].text()
        return "DAS IST ALLES, WAS DA STEHT. " * 9 if "it stands" in prompt else text.upper()

    model = Speaker(distracted)
    async with task_group(tmp_path, "translation", model) as group:
        answer = await translated(group, "One thing.\nAnother thing.")
    assert answer["translations"][0]["text"] == "ONE THING.\nANOTHER THING."
    assert answer["translations"][0]["violations"] == []


def fits(model: Speaker, context: int) -> bool:
    """Whether every prompt with the answer that it allows fits, at a token for two characters."""
    asked = zip(model.prompts, model.asked, strict=True)
    return all(len(prompt) / 2 + (sampling.max_tokens or 0) <= context for prompt, (_, sampling) in asked)


@pytest.mark.parametrize("asked", ["m", "auto"])
async def test_a_small_context_makes_pieces_smaller(tmp_path: Path, asked: str) -> None:
    model = Speaker(context=1024)
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(40))
    async with task_group(tmp_path, "translation", model) as group:
        assert await text_of(group, text, model=asked) == text.upper()
    longest = max(len(prompt.rpartition("\n\n")[2]) for prompt in model.prompts)
    assert 80 < longest < 300 and fits(model, 1024)


async def test_terms_of_a_piece_count_into_the_context(tmp_path: Path) -> None:
    model = Speaker(context=1024)
    words = [f"term{n:02}" for n in range(40)]
    terms = [{"source": word, "target": word.upper() + " WITH A LONG TRANSLATION" * 5} for word in words]
    text = ". ".join(f"Here is {word} and some more text" for word in words)
    plain = Speaker(context=1024, id="plain")
    async with task_group(tmp_path, "translation", model, plain, user_config={"retries": 0}) as group:
        await text_of(group, text, terms=terms)
        await text_of(group, text, model="plain")
    assert fits(model, 1024) and len(model.prompts) > len(plain.prompts)
    for prompt in model.prompts:
        piece = prompt.rpartition("\n\n")[2]
        assert {word for word in words if f'"{word}" is' in prompt} == {word for word in words if word in piece}


async def test_examples_that_do_not_fit_are_left_out_the_likest_last(tmp_path: Path) -> None:
    model = Speaker(context=1024)
    near = {"source": "The house is red now.", "target": "Das Haus ist jetzt rot."}
    long = {"source": "The house is red, now?", "target": "Das Haus " * 300}
    async with task_group(tmp_path, "translation", model) as group:
        await text_of(group, "The house is red now!", tm_list=[near, long])
    assert near["target"] in model.prompts[0] and long["target"] not in model.prompts[0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"terms": [{"source": "gateway", "target": "Tor " * 600}]}, "terms"),
        ({"domains": "About gates. " * 150}, "domains"),
    ],
)
async def test_what_leaves_no_room_for_the_text_is_refused_by_its_name(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    model = Speaker(context=1024)
    async with task_group(tmp_path, "translation", model) as group:
        answer = await group.client.post(ROUTE, json={**ASKED, "text": "The gateway is open.", **fields})
        assert await text_of(group, "The door is open.", terms=fields.get("terms", [])) == "THE DOOR IS OPEN."
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, "context_length_exceeded")
    assert error["message"].startswith(f"{param}: ") and "1024" in error["message"]
    assert len(model.prompts) == 1
