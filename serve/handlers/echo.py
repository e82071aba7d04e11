"""A handler with no model, to measure everything around an engine: ``scripts/benchmark.py`` uses it, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serve.errors import QueueFull
from serve.handlers.base import Capabilities, EventStream, Handler, Load
from serve.protocol.events import Delta, Event, Usage
from serve.protocol.requests import ChatRequest
from serve.protocol.sampling import Sampling
from serve.settings.engines import EchoEngine
from serve.settings.model import ModelSettings


class EchoHandler(Handler):
    """Answers every chat with the same tokens, at a set pace."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        assert isinstance(settings.engine, EchoEngine)
        self._engine = settings.engine
        self._active = 0

    async def load(self) -> None:
        """Nothing to load."""

    async def unload(self) -> None:
        """Nothing to give back."""

    @property
    def capabilities(self) -> Capabilities:
        """It chats, and that is all."""
        return Capabilities(chat=True)

    def load_now(self) -> Load:
        """How many streams run."""
        return Load(slots=self._engine.slots, active=self._active)

    async def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        """The set number of tokens, each in an event of its own."""
        if self._active >= self._engine.slots:
            raise QueueFull(self.settings.id)
        self._active += 1
        try:
            tokens = min(self._engine.tokens, sampling.max_tokens or self._engine.tokens)
            for number in range(tokens):
                if self._engine.token_ms:
                    await asyncio.sleep(self._engine.token_ms / 1000)
                yield (Delta(text=f" token{number}"),)
            last: Sequence[Event] = (Delta(finish_reason="stop"), Usage(len(request.messages), tokens))
            yield last
        finally:
            self._active -= 1
