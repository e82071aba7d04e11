"""The handler of GGUF models: what the replica calls, on its event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from serve.adapters.errors import BadAdapter
from serve.adapters.files import sha256
from serve.errors import AdapterNotFound, AdapterRefused, InternalError, Unavailable
from serve.handlers.base import Capabilities, EventStream, Handler, Load
from serve.handlers.llamacpp.adapters import Adapter, AdapterFiles
from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.engine import Engine
from serve.handlers.llamacpp.lora import BaseModel
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.pictures import PictureQueue
from serve.handlers.llamacpp.plan import Plan, Planner
from serve.handlers.llamacpp.sequence import Stream
from serve.handlers.llamacpp.sight import Sight
from serve.handlers.llamacpp.threads import in_own_thread
from serve.models import local_path
from serve.models.place import model_folder
from serve.models.wanted import base_sha256
from serve.pictures.parts import check_count, image_parts
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
        self._model: Model | None = None
        self._files: AdapterFiles | None = None
        self._sight: Sight | None = None
        most = self._engine_settings.slots + settings.max_queued  # as the engine's own queue, which comes behind it
        self._pictures = PictureQueue(settings.id, most, self._engine_settings.picture_limits)
        self._adapters: dict[str, Adapter] = {}

    async def load(self) -> None:
        """Fetch the file if it is not here, load it, and run it once.

        Raises:
            ModelSourceError: the file cannot be had.
            RuntimeError: llama.cpp cannot load it.
        """
        assert self.settings.weights is not None
        began = time.monotonic()
        path = await asyncio.to_thread(local_path, self.settings.id, self.settings.weights)
        model, context, self._planner, self._sight = await in_own_thread(lambda: self._open(path))
        self._model = model
        folder = model_folder(self.settings.id, None) / "adapters"
        base = base_sha256(self.settings.weights)
        assert base is not None, "the settings of this handler name one file"
        self._files = AdapterFiles(BaseModel.of(model, path), base, folder)
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
        engine, self._engine, self._planner, self._model, self._files = self._engine, None, None, None, None
        self._sight = None
        self._adapters.clear()
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
            vision=template is not None and self._sight is not None,
            pictures=self._sight.grid if self._sight else None,
            reasoning=template is not None and template.reasons,
            logprobs=True,
            context=self._engine_settings.context,
        )

    def load_now(self) -> Load:
        """How busy the engine is."""
        if self._engine is None:
            return Load(slots=self._engine_settings.slots)
        load = self._engine.load()
        beside = sum(adapter.size for adapter in self._adapters.values())
        beside += self._sight.size if self._sight else 0
        return replace(load, memory_bytes=load.memory_bytes + beside)

    async def check(self) -> None:
        """Raise when the engine has given itself up."""
        if self._engine and self._engine.broken:
            raise InternalError(f"The model {self.settings.id!r} failed too often.") from self._engine.broken

    @property
    def chat_template_sha256(self) -> str | None:
        """SHA-256 of the template in the model's file."""
        template = self._model.chat_template if self._model else None
        return sha256(template.encode()) if template else None

    async def add_adapter(self, name: str, folder: Path) -> None:
        """Convert a PEFT folder, once for each content, and load it beside the model; others answer meanwhile.

        Raises:
            AdapterRefused: it does not fit the model, or llama.cpp cannot do what it asks for.
            Unavailable: the model is not in memory, or left it meanwhile.
        """
        model, files = self._model, self._files
        if model is None or files is None:
            raise Unavailable(f"The model {self.settings.id!r} is not loaded.")
        try:
            path = await asyncio.to_thread(files.converted, folder)
            adapter = await asyncio.to_thread(Adapter, model, path, name)
        except BadAdapter as fault:
            raise AdapterRefused(str(fault)) from fault
        if self._model is not model:  # An adapter of weights that are gone must not meet others.
            raise Unavailable(f"The model {self.settings.id!r} was unloaded meanwhile.")
        await self.remove_adapter(name)
        self._adapters[name] = adapter

    async def remove_adapter(self, name: str) -> None:
        """Free an adapter when the last request that runs on it has ended."""
        adapter = self._adapters.pop(name, None)
        if adapter is not None and self._engine is not None:
            self._engine.retire(adapter)

    def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        """Generate an answer; what is wrong with the request is raised when the stream is first asked."""
        return self._stream(request.adapter, lambda planner: self._plan_chat(planner, request, sampling))

    def complete(self, request: CompletionRequest, sampling: Sampling) -> EventStream:
        """Continue a text; what is wrong with the request is raised when the stream is first asked."""
        return self._stream(request.adapter, lambda planner: to_thread(planner.complete, request, sampling))

    async def _plan_chat(self, planner: Planner, request: ChatRequest, sampling: Sampling) -> Plan:
        """The plan of a chat. Templates, tokens and grammars take milliseconds, or more for large ones; pictures take
        seconds, and compute in a thread of their own."""
        parts = image_parts(request.messages)
        if not parts:
            return await to_thread(planner.chat, request, sampling)
        check_count(parts, self._engine_settings.images if self._sight else 0)
        return await self._pictures.encode(
            parts,
            self._sight.grid if self._sight else None,
            lambda pictures, left: planner.chat(request, sampling, pictures, left),
        )

    async def _stream(self, name: str | None, make_plan: Callable[[Planner], Awaitable[Plan]]) -> EventStream:
        engine, planner = self._engine, self._planner
        if engine is None or planner is None:
            raise Unavailable(f"The model {self.settings.id!r} is not loaded.")
        adapter = None if name is None else self._adapters.get(name)
        if adapter is None and name is not None:
            raise AdapterNotFound(self.settings.id, name, self._adapters)
        plan = await make_plan(planner)  # Other streams go on meanwhile.
        stream = Stream(replace(plan, adapter=adapter))
        engine.submit(stream)
        try:
            last = False
            while not last:
                events = await stream.take()
                last = isinstance(events[-1], Usage)
                yield events
        finally:
            engine.cancel(stream)

    def _open(self, path: Path) -> tuple[Model, Context, Planner, Sight | None]:
        model = Model(path, self._engine_settings)
        projector = self._engine_settings.projector
        sight = Sight(path.parent / projector, model, self._engine_settings) if projector else None
        planner = Planner(model, self._engine_settings.context, sight)
        if 0 < model.trained_context < self._engine_settings.context:
            logger.warning(
                "the context is longer than the model was trained for",
                extra={"model": self.settings.id, "trained": model.trained_context},
            )
        return model, Context(model, self._engine_settings), planner, sight
