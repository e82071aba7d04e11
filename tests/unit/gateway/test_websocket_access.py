"""Who may open a socket, and what each chat on it counts for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from serve.gateway import access
from tests.unit.gateway.group import Group, group
from tests.unit.gateway.lines import Lines, lines
from tests.unit.gateway.sockets import chat, hear, socket, until_end
from tests.unit.replica.models import echo

__all__ = ["lines"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/chat/stream", {}, 401),
        ("/v1/chat/stream", {"authorization": "Bearer gq-wrong"}, 401),
        ("/v1/chat/stream", {"origin": "https://evil.example.org"}, 403),
        ("/v1/nothing", {}, 401),
    ],
)
async def test_a_socket_that_may_not_open_is_told_why(
    tmp_path: Path, path: str, headers: dict[str, str], status: int, lines: Lines
) -> None:
    async with group(tmp_path, echo(), key_required=True) as found:
        with pytest.raises(InvalidStatus) as raised:
            async with socket(found, path, **headers):
                pass
    assert raised.value.response.status_code == status
    assert json.loads(raised.value.response.body)["error"]["message"]
    assert [line["status"] for line in lines.all("serve.access")] == [status]


async def test_a_socket_to_an_address_that_has_none_is_refused(tmp_path: Path) -> None:
    async with group(tmp_path, echo()) as found:
        with pytest.raises(InvalidStatus) as raised:
            async with socket(found, "/v1/models"):
                pass
    assert raised.value.response.status_code in (403, 404)


async def made(group: Group, **fields: Any) -> str:
    """The secret of a new key."""
    wanted = {"scopes": ["inference"], "requests_per_minute": None, "tokens_per_minute": None} | fields
    return (await group.store.keys.create("test", **wanted)).secret


async def test_a_key_that_may_not_ask_models_opens_no_socket(tmp_path: Path) -> None:
    async with group(tmp_path, echo(), key_required=True) as found:
        secret = await made(found, scopes=["conversations"])
        with pytest.raises(InvalidStatus) as raised:
            async with socket(found, authorization=f"Bearer {secret}"):
                pass
    assert raised.value.response.status_code == 403


async def test_every_chat_on_a_socket_counts_as_a_request_of_its_key(tmp_path: Path) -> None:
    async with group(tmp_path, echo(tokens=2), key_required=True) as found:
        secret = await made(found, requests_per_minute=2)
        async with socket(found, authorization=f"Bearer {secret}") as client:
            await chat(client, "a")
            assert (await until_end(client, "a"))[-1]["type"] == "done"
            await chat(client, "b")
            assert (await hear(client))["error"]["code"] == "requests_per_minute"


async def test_the_tokens_of_a_chat_on_a_socket_count_for_its_key(tmp_path: Path) -> None:
    async with group(tmp_path, echo(tokens=9), key_required=True) as found:
        secret = await made(found, tokens_per_minute=5)
        async with socket(found, authorization=f"Bearer {secret}") as client:
            await chat(client, "a")
            await until_end(client, "a")
            await chat(client, "b")
            assert (await hear(client))["error"]["code"] == "tokens_per_minute"


async def test_a_key_that_is_revoked_begins_no_new_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "CACHE_SECONDS", 0.0)
    async with group(tmp_path, echo(tokens=2), key_required=True) as found:
        secret = await made(found)
        async with socket(found, authorization=f"Bearer {secret}") as client:
            (key,) = await found.store.keys.list()
            await found.store.keys.revoke(key.id)
            await chat(client, "a")
            assert (await hear(client))["error"]["code"] == "invalid_api_key"
