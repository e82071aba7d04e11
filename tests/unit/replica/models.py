"""Replicas in this process, for tests: real apps over handlers that need no weights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from serve.adapters.promotions import Promotions
from serve.adapters.registry import Registry
from serve.handlers.base import Capabilities, EventStream, Handler, Load
from serve.handlers.echo import EchoHandler
from serve.protocol.events import Embeddings, Event
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from serve.protocol.sampling import Sampling
from serve.replica.adapters import Adapters
from serve.replica.asgi import TOKEN_HEADER, ReplicaApp
from serve.replica.metrics import ReplicaMetrics
from serve.replica.variants import Variants
from serve.residency.desk import Desk, is_alive
from serve.residency.ledger import Ledger
from serve.residency.need import Need
from serve.residency.resident import Resident
from serve.settings.model import ModelSettings, ModelUserConfig

TOKEN = "internal-secret"
SIGNED = {TOKEN_HEADER.decode(): TOKEN}
CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}

NOWHERE = Path("/does/not/exist")

#: What a handler yields, raises, or waits for, in turn.
Step = Sequence[Event] | Exception | asyncio.Event


class Scripted(Handler):
    """Answers every request with the same steps.

    Attributes:
        active: requests under way.
        asked: every request, with its sampling.
    """

    def __init__(self, *steps: Step, id: str = "m", **capabilities: Any) -> None:
        super().__init__(ModelSettings(id=id, handler="echo"))
        self.steps = steps
        self.active = 0
        self.asked: list[tuple[ChatRequest | CompletionRequest, Sampling]] = []
        self._capabilities = Capabilities(**{"chat": True, "completion": True, "embeddings": True} | capabilities)

    async def load(self) -> None:
        """Nothing to load."""

    async def unload(self) -> None:
        """Nothing to give back."""

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def load_now(self) -> Load:
        return Load(slots=8, active=self.active)

    async def _play(self) -> EventStream:
        self.active += 1
        try:
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.active -= 1

    def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        self.asked.append((request, sampling))
        return self._play()

    def complete(self, request: CompletionRequest, sampling: Sampling) -> EventStream:
        self.asked.append((request, sampling))
        return self._play()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        return Embeddings([[0.5, -0.5] for _ in request.texts], prompt_tokens=len(request.texts))


def echo(id: str = "m", **engine: Any) -> EchoHandler:
    """The handler without a model, as it ships."""
    return EchoHandler(ModelSettings.model_validate({"id": id, "handler": "echo", "engine": engine}))


def replica(
    handler: Handler,
    adapters: Adapters | None = None,
    at: Resident | None = None,
    variants: Variants | None = None,
) -> ReplicaApp:
    """The app that a replica of ``handler`` serves; with no adapters, unless some are given."""
    adapters = adapters or Adapters(handler, Registry(NOWHERE), NOWHERE)
    metrics = ReplicaMetrics(handler.settings.id)
    variants = variants or Variants(handler.settings.id, Promotions(Registry(NOWHERE)), adapters)
    return ReplicaApp(at or resident(handler), TOKEN, ModelUserConfig(), metrics, adapters, variants)


def resident(handler: Handler, need: int = 0, desk: Desk | None = None) -> Resident:
    """A handler whose memory a ledger of this process knows; by default there is room for everything."""
    return Resident(handler, desk or Desk(Ledger(10**15), is_alive), Need(weights=need))


def client(app: ASGIApp, **headers: str) -> httpx.AsyncClient:
    """A client of an app that shows the internal token."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=SIGNED | headers
    )
