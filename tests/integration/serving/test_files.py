"""Uploads through Serve's proxy to a real gateway, and a gateway that dies while one comes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.group import Group, echo, gateway

FORM = {"content-type": "multipart/form-data; boundary=frontier"}
HEAD = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
TAIL = b'\r\n--frontier\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--frontier--\r\n'
LINE = b'{"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Sunny."}]}\n'


def folder(group: Group) -> Path:
    return group.folder.path.parent / "files"


def test_a_training_file_comes_through_the_proxy_and_goes_back(group: Group) -> None:
    group.deploy(gateway(), echo("first"))
    content = LINE * 50_000
    made = group.client.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "fine-tune"})
    assert made.status_code == 200, made.text
    assert made.json()["validation"]["examples"] == 50_000
    path = f"/v1/files/{made.json()['id']}"
    assert group.client.get(f"{path}/content").content == content
    assert group.client.delete(path).json()["deleted"]
    refused = group.client.post("/v1/files", files={"file": ("a.jsonl", LINE + b"{")}, data={"purpose": "fine-tune"})
    assert refused.json()["error"]["validation"]["errors"]["listed"][0]["line"] == 2


@pytest.mark.timeout(240)
async def test_what_a_killed_gateway_was_given_is_swept_by_the_next(group: Group) -> None:
    await asyncio.to_thread(group.deploy, gateway(), echo("first"))
    [pid] = group.replicas("gateway").values()
    before = set(folder(group).glob("*")) if folder(group).exists() else set()

    async def body() -> AsyncIterator[bytes]:
        yield HEAD + b"x" * 3_000_000
        await asyncio.to_thread(group.until, lambda: list(folder(group).glob("*.part")), "the upload has begun")
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(1)
        yield b"x" * 1000 + TAIL

    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        try:
            answer = await client.post("/v1/files", content=body(), headers=FORM)
        except httpx.TransportError:
            pass  # Its connection went with the gateway.
        else:
            assert answer.status_code >= 500
    await asyncio.to_thread(group.until, lambda: set(folder(group).glob("*")) == before, "the next gateway has swept")
    assert (await asyncio.to_thread(group.client.get, "/v1/files")).json()["data"] == []
