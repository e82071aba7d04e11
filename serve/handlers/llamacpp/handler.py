"""The handler of GGUF models: what the replica calls, on its event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from serve.errors import InternalError, Unavailable
from serve.handlers.base import Capabilities, EventStream, Handler, Load
from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.engine import Engine
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.plan import Plan, Planner
from serve.handlers.llamacpp.sequence import Stream
from serve.models import local_path
from serve.protocol.events import Usage
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.protocol.sampling import Sampling
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

logger = logging.getLogger(__name__)


class LlamaCppHandler(Handler):
    """One GGUF model in this process."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        assert isinstance(settings.engine, LlamaCppEngine)
        self._engine_settings = settings.engine
        self._engine: Engine | None = None
        self._planner: Planner | None = None

    async def load(self) -> None:
        """Fetch the file if it is not here, load it, and run it once.

        Raises:
            ModelSourceError: the file cannot be had.
            RuntimeError: llama.cpp cannot load it.
        """
        assert self.settings.weights is not None
        began = time.monotonic()
        path = await asyncio.to_thread(local_path, self.settings.id, self.settings.weights)
        model, context, self._planner = await asyncio.to_thread(self._open, path)
        self._engine = Engine(
            model,
            context,
            self._engine_settings,
            name=self.settings.id,
            max_queued=self.settings.max_queued,
            loop=asyncio.get_running_loop(),
        )
        seconds = round(time.monotonic() - began, 3)
        size = {"bytes": model.size, "cache_bytes": context.memory_bytes}
        logger.info("model loaded", extra={"model": self.settings.id, "seconds": seconds, **size})

    async def unload(self) -> None:
        """Stop the engine after its current step and free the model."""
        engine, self._engine, self._planner = self._engine, None, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    @property
    def capabilities(self) -> Capabilities:
        """What the model's template makes of it."""
        if self._planner is None:
            raise Unavailable(f"The model {self.settings.id!r} is not loaded.")
        template = self._planner.template
        return Capabilities(
            chat=template is not None,
            completion=True,
            tools=template is not None and template.has_tools,
            structured_output=True,
            reasoning=template is not None and template.reasons,
            logprobs=True,
            context=self._engine_settings.context,
        )

    def load_now(self) -> Load:
        """How busy the engine is."""
        return self._engine.load() if self._engine else Load(slots=self._engine_settings.slots)

    async def check(self) -> None:
        """Raise when the engine has given itself up."""
        if self._engine and self._engine.broken:
            raise InternalError(f"The model {self.settings.id!r} failed too often.") from self._engine.broken

    def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        """Generate an answer; what is wrong with the request is raised when the stream is first asked."""
        return self._stream(lambda planner: planner.chat(request, sampling))

    def complete(self, request: CompletionRequest, sampling: Sampling) -> EventStream:
        """Continue a text; what is wrong with the request is raised when the stream is first asked."""
        return self._stream(lambda planner: planner.complete(request, sampling))

    async def _stream(self, make_plan: Callable[[Planner], Plan]) -> EventStream:
        engine, planner = self._engine, self._planner
        if engine is None or planner is None:
            raise Unavailable(f"The model {self.settings.id!r} is not loaded.")
        # Templates, tokens and grammars take milliseconds, or more for large ones; other streams go on meanwhile.
        plan = await asyncio.to_thread(make_plan, planner)
        stream = Stream(plan)
        engine.submit(stream)
        try:
            last = False
            while not last:
                events = await stream.take()
                last = isinstance(events[-1], Usage)
                yield events
        finally:
            engine.cancel(stream)

    def _open(self, path: Path) -> tuple[Model, Context, Planner]:
        model = Model(path, self._engine_settings)
        planner = Planner(model, self._engine_settings.context)
        if 0 < model.trained_context < self._engine_settings.context:
            logger.warning(
                "the context is longer than the model was trained for",
                extra={"model": self.settings.id, "trained": model.trained_context},
            )
        return model, Context(model, self._engine_settings), planner
