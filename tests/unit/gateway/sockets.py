"""Clients of the gateway's socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.unit.gateway.group import Group, listening
from tests.unit.replica.models import HELLO

Json = dict[str, Any]


@asynccontextmanager
async def socket(group: Group, path: str = "/v1/chat/stream", **headers: str) -> AsyncIterator[ClientConnection]:
    """A socket to a gateway."""
    async with (
        listening(group.app) as address,
        connect(f"ws://{address}{path}", additional_headers=headers, proxy=None) as found,
    ):
        yield found


async def say(socket: ClientConnection, **message: Any) -> None:
    """Send one message."""
    await socket.send(json.dumps(message))


async def chat(socket: ClientConnection, id: str, **fields: Any) -> None:
    """Begin a chat."""
    await say(socket, type="chat", id=id, request=HELLO | fields)


async def hear(socket: ClientConnection) -> Json:
    """The next message."""
    async with asyncio.timeout(20):
        found: Json = json.loads(await socket.recv())
        return found


async def until_end(socket: ClientConnection, id: str) -> list[Json]:
    """The messages up to the last one of a request, those of others among them."""
    found = [await hear(socket)]
    while found[-1].get("id") != id or found[-1]["type"] == "chunk":
        found.append(await hear(socket))
    return found


def text(messages: list[Json], id: str) -> str:
    """The answer in the chunks of a request."""
    choices = [
        message["data"]["choices"] for message in messages if message["type"] == "chunk" and message["id"] == id
    ]
    return "".join(choice["delta"].get("content", "") for entry in choices for choice in entry)
