"""Terms, a translation memory, domains: what a model is told beside the text."""

from __future__ import annotations

from pathlib import Path

from serve.protocol.requests import ChatRequest
from tests.unit.tasks.group import TaskGroup, task_group
from tests.unit.translation.asking import text_of, translated
from tests.unit.translation.models import Speaker, saying, shouted


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


async def test_a_memory_answers_what_it_has_and_shows_what_is_near(group: TaskGroup, model: Speaker) -> None:
    memory = [{"source": f"Item number {n} of the list", "target": f"Posten {n}"} for n in range(500)]
    memory.append({"source": "The house is red.", "target": "Das Haus ist rot."})
    assert await text_of(group, "the house is RED.", tm_list=memory) == "Das Haus ist rot."
    assert model.prompts == []
    await text_of(group, "The house is green.", tm_list=memory)
    assert "The house is red. => Das Haus ist rot." in model.prompts[0]
    assert model.prompts[0].count("=>") <= 3


async def test_domains_are_told(group: TaskGroup, model: Speaker) -> None:
    await text_of(group, "The bank is closed.", domains="About rivers.")
    assert "About the text: About rivers." in model.prompts[0]


async def test_qwen_mt_gets_its_own_options_and_the_bare_text(tmp_path: Path) -> None:
    def checked(request: ChatRequest, text: str) -> str:
        assert request.translation_options is not None
        assert request.translation_options.target_lang == "German"
        return shouted(request, text)

    model = Speaker(checked, id="qwen-mt-flash")
    async with task_group(tmp_path, "translation", model) as group:
        text = await text_of(group, "Good {name}.", model="qwen-mt-flash", domains="Names.")
    assert (text, model.prompts) == ("GOOD {name}.", ["Good"])
