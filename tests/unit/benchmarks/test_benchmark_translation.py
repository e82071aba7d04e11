"""The sets and scores of the translation benchmark, and the task on all of its format cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.translation import scores
from benchmarks.translation.sets import Case, cases, sentences
from tests.unit.tasks.group import task_group
from tests.unit.translation.models import Rule, Speaker, losing, shouted


def test_the_sets_are_whole() -> None:
    assert (len(sentences()), len({one.target for one in sentences()}), len(cases())) == (24 * 8, 8, 60)
    assert all(one.text and one.reference for one in sentences())
    assert [case for case in cases() if case.lost(case.text) or not case.intact(case.text)] == []


@pytest.mark.parametrize("rule", [shouted, losing], ids=["a good model", "a model that loses every mark"])
async def test_the_task_keeps_the_form_of_every_case(tmp_path: Path, rule: Rule) -> None:
    async with task_group(tmp_path, "translation", Speaker(rule)) as group:
        broken = []
        for case in cases():
            asked = {"text": case.text, "format": case.format, "source_lang": "en", "target_lang": case.target}
            answer = await group.client.post("/v1/translate", json={**asked, "model": "m"})
            text = answer.json()["translations"][0]["text"]
            if case.lost(text) or not case.intact(text):
                broken.append((case.text, text))
    assert broken == []


def test_what_is_lost_is_told() -> None:
    case = Case("  Hello {name}, {name}!\n", "de", "text", ("{name}",))
    assert case.lost("  Hallo {name}!\n") == ["{name}"]
    assert case.intact("  Hallo {name}, {name}!\n")
    assert not case.intact("Hallo {name}, {name}!\n") and not case.intact("  Hallo {name},\n {name}!\n")


def test_the_report_has_every_language_and_a_verdict_on_each_bar() -> None:
    some = [one for one in sentences() if one.target in ("de", "zh")]
    right = [(one, one.reference) for one in some]
    wrong = [(one, "nothing of it") for one in some]
    kept = [(case, case.text) for case in cases()]
    lost = [(case, "") for case in cases()]
    found = scores.Found({"task": right, "plain": wrong}, {"task": kept, "plain": lost})
    text = scores.markdown({"machine": "this one"}, found)
    assert "| de | 100.0 |" in text and "| zh | 100.0 |" in text
    assert text.count("| met |") == 3
    swapped = scores.Found({"task": wrong, "plain": right}, {"task": lost, "plain": kept})
    assert scores.markdown({}, swapped).count("| missed |") == 3
    assert len(found.data()["cases"]) == 120
