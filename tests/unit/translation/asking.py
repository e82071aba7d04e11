"""What tests of ``/v1/translate`` ask, and how they read its answers."""

from __future__ import annotations

from typing import Any

from tests.unit.tasks.group import TaskGroup

ROUTE = "/v1/translate"
ASKED: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "model": "m"}


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
