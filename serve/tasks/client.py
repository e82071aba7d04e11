"""How a task asks models of its group: through the gateway, which knows where they are.

So a task has ``auto`` and its rules, models that are woken, adapters and lost replicas handled by the code that
handles them for clients. It shows the internal token in place of a key; what the task asks is
counted to whoever asked the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from serve.errors import (
    Conflict,
    Forbidden,
    GroupQwenError,
    InternalError,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Unauthorized,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve.logs import request_id
from serve.protocol.http import ERROR_HEADER
from serve.protocol.sse import FrameReader
from serve.replica.asgi import TOKEN_HEADER

Json = dict[str, Any]

_CHAT = "/v1/chat/completions"
#: A full queue is waited for this often: a task asks many small things at once.
_QUEUE_TRIES = 5
_KINDS: dict[int, type[GroupQwenError]] = {
    kind.status: kind
    for kind in (
        InvalidRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        Conflict,
        PayloadTooLarge,
        RateLimited,
        InternalError,
        UpstreamFailed,
        UpstreamTimeout,
        Unavailable,
    )
}


class GroupClient:
    """Asks the gateway of this group.

    Args:
        url: the gateway's address, with no path.
        token: the internal token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def chat(self, body: Json, *, seconds: float) -> Json:
        """The ``chat.completion`` object that answers ``body``.

        Raises:
            GroupQwenError: what the group answered, with its own status, code and message; 504 after ``seconds``.
        """
        async with self._asked("POST", _CHAT, orjson.dumps({**body, "stream": False}), seconds) as answer:
            found: Json = orjson.loads(await answer.read())
            return found

    async def stream(self, body: Json, *, seconds: float) -> AsyncGenerator[Json, None]:
        """The ``chat.completion.chunk`` objects that answer ``body``, as they come; closing this cancels the request.

        Raises:
            GroupQwenError: as ``chat``; for an error within the stream, too.
        """
        reader = FrameReader()
        sent = orjson.dumps({**body, "stream": True, "stream_options": {"include_usage": True}})
        async with self._asked("POST", _CHAT, sent, seconds) as answer:
            async for piece in answer.content.iter_any():
                for data in reader.feed(piece):
                    if data == b"[DONE]":
                        return
                    chunk: Json = orjson.loads(data)
                    if "error" in chunk:
                        raise _error(UpstreamFailed.status, chunk, None)
                    yield chunk
        raise UpstreamFailed("The model's answer broke off.", code="model_lost")

    async def model(self, id: str, *, seconds: float = 10.0) -> Json:
        """What ``/v1/models`` says of a model. Raises as ``chat``."""
        async with self._asked("GET", f"/v1/models/{quote(id, safe='')}", b"", seconds) as answer:
            found: Json = orjson.loads(await answer.read())
            return found

    async def models(self, *, seconds: float = 10.0) -> list[Json]:
        """What ``/v1/models`` says of all of them. Raises as ``chat``."""
        async with self._asked("GET", "/v1/models", b"", seconds) as answer:
            found: list[Json] = orjson.loads(await answer.read())["data"]
            return found

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: bytes, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of status 200, whose body comes."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._taken(method, path, body)
                try:
                    yield answer
                finally:
                    # A connection whose answer was not taken whole is closed, which ends the model's work on it.
                    answer.release() if answer.content.at_eof() else answer.close()
        except TimeoutError as late:
            raise UpstreamTimeout(f"The model did not answer within {seconds:g} s.") from late
        except aiohttp.ClientError as failure:
            raise Unavailable("The group's gateway cannot be reached.", retry_after=2) from failure

    async def _taken(self, method: str, path: str, body: bytes) -> aiohttp.ClientResponse:
        """The head of an answer of status 200; asked again where a queue was full."""
        headers = {
            TOKEN_HEADER.decode(): self._token,
            "content-type": "application/json",
            "x-request-id": request_id.get() or "task",
        }
        for tries_left in reversed(range(_QUEUE_TRIES)):
            answer = await self._open().request(method, self._url + path, data=body, headers=headers)
            if answer.status == 200:
                return answer
            try:
                raw = await answer.read()
            finally:
                answer.release()
            if answer.status != RateLimited.status or not tries_left:
                raise _error(answer.status, _json(raw), answer.headers)
            wait = _seconds(answer.headers.get("retry-after"))
            await asyncio.sleep(1.0 if wait is None else wait)
        raise AssertionError("the last try returns or raises")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The task bounds what it asks at once; a limit here would queue without a word.
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session


def _json(raw: bytes) -> Json:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None


def _error(status: int, body: Json, headers: Any) -> GroupQwenError:  # noqa: ANN401 - aiohttp's own mapping, or none
    """The error object of an answer as the error that it was."""
    told: Json = body.get("error") or {}
    code = told.get("code") or (headers.get(ERROR_HEADER.decode()) if headers else None)
    kind = _KINDS.get(status, UpstreamFailed)
    # Serve's own answers and a field of the task's request to the model mean nothing to the task's client.
    param = "model" if told.get("param") == "model" else None
    retry_after = _seconds(headers.get("retry-after")) if headers else None
    return kind(
        told.get("message") or "The model cannot answer now.", param=param, code=code, retry_after=retry_after
    )
