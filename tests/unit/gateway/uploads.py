"""Uploads to a gateway of this process, and what they leave on the disk."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx

from tests.unit.gateway.group import Group

FILES = "/v1/files"
CHAT = {"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Sunny."}]}
TRAINING = json.dumps(CHAT).encode() + b"\n"
BOUNDARY = "frontier"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}

#: Limits that small uploads reach.
LIMITS = {"file_bytes": 100_000, "stored_files": 5, "stored_bytes": 250_000, "uploads": 2}


async def key(group: Group, *scopes: str) -> dict[str, str]:
    """The header of a new key."""
    new = await group.store.keys.create("test", scopes or ["files"], None, None)
    return {"authorization": f"Bearer {new.secret}"}


async def call(group: Group, method: str, path: str = "", **options: Any) -> httpx.Response:
    async with group.client() as client:
        return await client.request(method, FILES + path, **options)


async def upload(
    group: Group, content: bytes = b"x", purpose: str = "user_data", filename: str = "a.bin", **options: Any
) -> httpx.Response:
    data = {"purpose": purpose} | options.pop("data", {})
    return await call(group, "POST", files={"file": (filename, content)}, data=data, **options)


async def refused(group: Group, answer: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    """The answer is this error, and nothing was kept."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    assert kept(group) == []
    assert (await call(group, "GET")).json()["data"] == []


def folder(group: Group) -> Path:
    return group.keeper._contents._folder


def kept(group: Group) -> list[str]:
    """What stands in the folder."""
    return sorted(os.listdir(folder(group))) if folder(group).exists() else []


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


PURPOSE = part("purpose", b"user_data")


async def pieces(data: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for one in data:
        yield one


class Held:
    """An upload whose body waits in its middle."""

    def __init__(self, group: Group, content: bytes = b"x" * 50_000, **options: Any) -> None:
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._send(group, content, options))

    async def _send(self, group: Group, content: bytes, options: dict[str, Any]) -> httpx.Response:
        headers = FORM | options.pop("headers", {})
        return await call(group, "POST", content=self._body(content), headers=headers, **options)

    async def _body(self, content: bytes) -> AsyncIterator[bytes]:
        body = form(PURPOSE, part("file", content, "a.bin"))
        yield body[:1000]
        await self.go.wait()
        yield body[1000:]
