"""Long texts: where they are cut, so that everything fits into a model's context, and what is shown of neighbours."""

from __future__ import annotations

from pathlib import Path

from tests.unit.tasks.group import task_group
from tests.unit.translation.asking import text_of
from tests.unit.translation.models import Speaker


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
