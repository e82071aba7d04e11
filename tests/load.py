"""A load of streamed chats, with what became of each."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Stream:
    """One streamed answer: its status, texts, error object, comments, and whether it ended with the end mark."""

    status: int = 0
    text: str = ""
    chunks: int = 0
    error: dict[str, Any] | None = None
    done: bool = False
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    comments: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether the answer came to its proper end."""
        return self.status == 200 and self.done and self.error is None


async def stream(client: httpx.AsyncClient, model: str, **fields: Any) -> Stream:
    """Ask for a streamed answer and take it to its end, however it ends."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, **fields}
    found = Stream()
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        found.status, found.headers = answer.status_code, answer.headers
        if answer.status_code != 200:
            found.error = json.loads(await answer.aread())["error"]
            return found
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                found.done = True
            elif line.startswith(":"):
                found.comments.append(line)
            elif line.startswith("data: "):
                take(found, json.loads(line[6:]))
    return found


def take(found: Stream, event: dict[str, Any]) -> None:
    """Add one event to what was found."""
    if "error" in event:
        found.error = event["error"]
        return
    found.chunks += 1
    for choice in event["choices"]:
        found.text += choice["delta"].get("content") or ""


class Load:
    """Streams that run one after the other in several workers until they are told to stop."""

    def __init__(self, url: str, model: str, workers: int, **fields: Any) -> None:
        self._url, self._model, self._workers, self._fields = url, model, workers, fields
        self.finished: list[Stream] = []
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Load:
        self._client = httpx.AsyncClient(base_url=self._url, timeout=120, limits=httpx.Limits(max_connections=None))
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    async def _work(self) -> None:
        while not self._stop.is_set():
            self.finished.append(await stream(self._client, self._model, **self._fields))
