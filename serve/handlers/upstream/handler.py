"""The handler of models on other servers: what the replica calls, on its event loop.

The server being down is no fault of the replica: it stays healthy, answers with an error, and tries again by the
rules of its breaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from serve.errors import QueueFull, Unavailable
from serve.handlers.base import Capabilities, EventStream, Handler, Load
from serve.handlers.upstream.bodies import chat_body, completion_body
from serve.handlers.upstream.client import Answer, Client
from serve.handlers.upstream.key import Key
from serve.handlers.upstream.stream import events_of, vectors_of
from serve.protocol.events import Embeddings
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from serve.protocol.sampling import Sampling
from serve.settings.model import ModelSettings
from serve.settings.upstream import UpstreamEngine


class UpstreamHandler(Handler):
    """One model of another server."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        assert isinstance(settings.engine, UpstreamEngine)
        self._engine = settings.engine
        self._client: Client | None = None
        self._slots = asyncio.Semaphore(self._engine.max_connections)
        self._active = 0
        self._queued = 0

    async def load(self) -> None:
        """Read the key. The server is not asked: it may be down now and back when a request comes.

        Raises:
            SettingsError: the key or the certificates cannot be read.
        """
        self._client = Client(self.settings.id, self._engine, Key(self._engine))

    async def unload(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @property
    def capabilities(self) -> Capabilities:
        """What the config says."""
        return Capabilities(**self._engine.capabilities.model_dump())

    def load_now(self) -> Load:
        """Requests under way and waiting, and whether the server is left alone."""
        return Load(
            slots=self._engine.max_connections,
            active=self._active,
            queued=self._queued,
            circuit_open=self._client is not None and self._client.breaker.open,
        )

    def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        """Generate an answer; what is wrong with the request is raised when the stream is first asked."""
        if not self._engine.capabilities.chat:
            return super().chat(request, sampling)
        return self._stream("/chat/completions", lambda: chat_body(request, sampling, self._engine), sampling.n)

    def complete(self, request: CompletionRequest, sampling: Sampling) -> EventStream:
        """Continue a text; what is wrong with the request is raised when the stream is first asked."""
        if not self._engine.capabilities.completion:
            return super().complete(request, sampling)
        return self._stream("/completions", lambda: completion_body(request, sampling, self._engine), sampling.n)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """One vector for each input, in one call for every ``inputs_per_call`` of them."""
        if not self._engine.capabilities.embeddings:
            return await super().embed(request)
        vectors: list[list[float]] = []
        tokens = 0
        for start in range(0, len(request.texts), self._engine.inputs_per_call):
            part = await self._embed(request, request.texts[start : start + self._engine.inputs_per_call])
            vectors += part.vectors
            tokens += part.prompt_tokens
        if len({len(vector) for vector in vectors}) > 1:
            raise self._running().faults.failed("sent vectors of different lengths")
        return Embeddings(vectors, tokens)

    async def _embed(self, request: EmbeddingRequest, texts: list[str]) -> Embeddings:
        asked = {} if request.dimensions is None else {"dimensions": request.dimensions}
        body = {"model": self._engine.model, "input": texts, "encoding_format": "float", **asked, **self._engine.body}
        async with self._answer("/embeddings", body) as answer:
            wanted = request.dimensions or self._engine.capabilities.dimensions
            found = vectors_of(answer, await answer.whole(), len(texts), wanted)
            await answer.finish()
            return found

    async def _stream(self, path: str, make_body: Callable[[], dict[str, Any]], choices: int) -> EventStream:
        async with self._answer(path, make_body()) as answer, aclosing(events_of(answer, choices)) as ready:
            async for events in ready:
                yield events

    @asynccontextmanager
    async def _answer(self, path: str, body: dict[str, Any]) -> AsyncIterator[Answer]:
        """An answer, in a slot of its own; left early, it is cut off."""
        async with self._slot():
            answer = await self._running().ask(path, body)
            try:
                yield answer
            finally:
                answer.close()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._queued >= self.settings.max_queued:
            raise QueueFull(self.settings.id)
        self._queued += 1
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._slots.release()

    def _running(self) -> Client:
        if self._client is None:
            raise Unavailable(f"The model {self.settings.id!r} is not loaded.")
        return self._client
