"""Answers of models: what is wrong with them, what is taken off, and when they are asked for again."""

from __future__ import annotations

import pytest

from tests.unit.tasks.group import TaskGroup
from tests.unit.translation.asking import text_of, translated
from tests.unit.translation.models import Speaker, losing, saying


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


async def test_a_lost_number_is_reported(group: TaskGroup, model: Speaker) -> None:
    model.rule = saying("ES KOSTET VIEL.")
    answer = await translated(group, "It costs 1,200 euros.")
    assert answer["translations"][0]["violations"] == [{"type": "number", "source": "1200"}]
