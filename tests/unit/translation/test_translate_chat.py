"""``translation_options`` on chat completions."""

from __future__ import annotations

from tests.unit.protocol.events import ends_well, frames
from tests.unit.tasks.group import TaskGroup
from tests.unit.translation.models import Speaker


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
