"""Translations as streams."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve.handlers.translation import answers
from serve.protocol.events import Delta, Event, Usage
from tests.unit.protocol.events import ends_well, frames
from tests.unit.replica.models import Scripted
from tests.unit.tasks.group import TaskGroup, task_group
from tests.unit.translation.asking import ASKED, ROUTE
from tests.unit.translation.models import Speaker


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
