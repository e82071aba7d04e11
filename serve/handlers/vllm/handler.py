"""The handler of checkpoints on vLLM: what the replica calls, on its event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from serve.errors import AdapterNotFound, AdapterRefused, InternalError, ModelLost
from serve.handlers.base import Capabilities, EventStream, Handler, Load
from serve.handlers.vllm.arguments import engine_arguments
from serve.handlers.vllm.grid import grid_of
from serve.handlers.vllm.request import chat_fields, sampling_fields
from serve.handlers.vllm.stats import EngineStats
from serve.models import local_path
from serve.pictures.parts import check_count, image_parts
from serve.pictures.sources import Pictures, data_url
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.protocol.sampling import Sampling
from serve.settings.engines import VllmEngine
from serve.settings.model import ModelSettings
from serve.settings.pictures import PictureGrid

if TYPE_CHECKING:
    from serve.handlers.vllm.library import Library

logger = logging.getLogger(__name__)


class VllmHandler(Handler):
    """One checkpoint on vLLM; the engine has processes of its own."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        assert isinstance(settings.engine, VllmEngine)
        self._engine_settings = settings.engine
        self._stats = EngineStats()
        self._weights_bytes = 0
        self._folder = Path()
        self._grid: PictureGrid | None = None
        self._pictures = Pictures(self._engine_settings.picture_limits)
        self._library: Library | None = None
        # The name in requests -> vLLM's, which never comes twice: it is a part of the key of cached prompts.
        self._adapters: dict[str, str] = {}
        self._numbers = itertools.count(1)

    async def load(self) -> None:
        """Fetch the checkpoint if it is not here, and start the engine on it.

        Raises:
            ModelSourceError: the checkpoint cannot be had.
            RuntimeError, ValueError, OSError: vLLM cannot load it.
        """
        assert self.settings.weights is not None
        began = time.monotonic()
        folder = await asyncio.to_thread(local_path, self.settings.id, self.settings.weights)
        self._folder = folder
        self._grid = await asyncio.to_thread(grid_of, folder)
        self._weights_bytes = await asyncio.to_thread(_bytes_in, folder)
        arguments = engine_arguments(self.settings.id, folder, self._engine_settings, self.settings.max_queued)
        # vLLM's import takes seconds, in which the event loop must answer Serve's questions.
        library = await asyncio.to_thread(_library)
        self._library = await library.start(self.settings.id, arguments, self._engine_settings, self._stats)
        seconds = round(time.monotonic() - began, 3)
        size = {"bytes": self._weights_bytes, "cache_bytes": self._library.cache_bytes}
        logger.info("model loaded", extra={"model": self.settings.id, "seconds": seconds, **size})

    async def unload(self) -> None:
        """Stop the engine; running requests end with an error."""
        library, self._library = self._library, None
        self._adapters.clear()
        if library is not None:
            await library.stop()

    @property
    def capabilities(self) -> Capabilities:
        """What the checkpoint and the settings make of it."""
        library = self._running()
        return Capabilities(
            chat=library.chats,
            completion=True,
            tools=library.chats and self._engine_settings.tool_parser is not None,
            structured_output=True,
            vision=library.chats and library.sees,
            pictures=self._grid if library.chats and library.sees else None,
            reasoning=library.chats and self._engine_settings.reasoning_parser is not None,
            logprobs=True,
            context=library.context,
        )

    def load_now(self) -> Load:
        """How busy the engine was after its last step."""
        if self._library is None:
            return Load(slots=self._engine_settings.max_sequences)
        return Load(
            slots=self._engine_settings.max_sequences,
            active=self._stats.running,
            queued=self._stats.waiting,
            queued_tokens=self._library.queued_tokens,
            tokens_per_second=self._stats.tokens_per_second,
            prompt_tokens_per_second=self._stats.prompt_tokens_per_second,
            memory_bytes=self._weights_bytes + self._library.cache_bytes,
            cache_use=self._stats.cache_use,
        )

    async def check(self) -> None:
        """Raise when the engine is dead; vLLM cannot start it again in the same process."""
        if self._library is not None:
            await self._library.check()

    async def add_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter into the engine.

        Raises:
            AdapterRefused: its rank or shapes do not fit, or the model has no slot left for it.
        """
        library = self._running()
        if len(self._adapters) >= self._engine_settings.adapters:
            raise AdapterRefused(
                f"This model holds at most {self._engine_settings.adapters} adapters (engine.adapters)."
            )
        await asyncio.to_thread(self._check_adapter, folder)
        known_as = f"{self.settings.id}:{name}:{next(self._numbers)}"
        if (reason := await library.add_adapter(known_as, folder)) is not None:
            await library.check()  # a dead engine is no fault of the adapter
            raise AdapterRefused(reason)
        self._adapters[name] = known_as
        logger.info("adapter loaded", extra={"model": self.settings.id, "adapter": name})

    async def remove_adapter(self, name: str) -> None:
        """Give an adapter's memory back; one that is not there is no fault."""
        if (known_as := self._adapters.pop(name, None)) is not None:
            await self._running().remove_adapter(known_as)

    def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        """Generate an answer; what is wrong with the request is raised when the stream is first asked."""

        async def begin(library: Library) -> EventStream:
            model = self._named(request.adapter) or self.settings.id
            pictures = await self._pictures_of(request)
            return await library.chat(
                chat_fields(
                    request, sampling, self._engine_settings, library.context, model=model, pictures=iter(pictures)
                )
            )

        return self._stream(begin, "messages")

    def complete(self, request: CompletionRequest, sampling: Sampling) -> EventStream:
        """Continue a text; what is wrong with the request is raised when the stream is first asked."""

        async def begin(library: Library) -> EventStream:
            fields = {**sampling_fields(sampling), "logit_bias": sampling.logit_bias or None}
            top, adapter = sampling.top_logprobs, self._named(request.adapter)
            return await library.complete(request.text, fields, sampling.max_tokens, top, adapter)

        return self._stream(begin, "prompt")

    async def _stream(self, begin: Callable[[Library], Awaitable[EventStream]], param: str) -> EventStream:
        from serve.handlers.vllm.errors import as_ours

        library = self._running()
        try:
            events = await begin(library)
            try:
                async for ready in events:
                    yield ready
            finally:
                await events.aclose()
        except Exception as error:
            if (ours := as_ours(error, self.settings.id, library.context, param)) is not None:
                raise ours from error
            raise

    async def _pictures_of(self, request: ChatRequest) -> list[str]:
        """The request's pictures as data URLs that are safe to decode."""
        parts = image_parts(request.messages)
        check_count(parts, self._engine_settings.images)
        urls, params = [url for url, _ in parts], [param for _, param in parts]
        return await self._pictures.read_each(urls, params, lambda found: data_url(found.picture))

    def _running(self) -> Library:
        if self._library is None:
            raise ModelLost(self.settings.id)
        return self._library

    def _check_adapter(self, folder: Path) -> None:
        from serve.handlers.vllm.adapter import check_adapter, shapes_in

        check_adapter(folder, shapes_in(self._folder), self._engine_settings.max_lora_rank)

    def _named(self, adapter: str | None) -> str | None:
        """vLLM's name of a request's adapter, or none for the base.

        Raises:
            AdapterNotFound: it is not here.
        """
        if adapter is None:
            return None
        if adapter not in self._adapters:
            raise AdapterNotFound(self.settings.id, adapter, self._adapters)
        return self._adapters[adapter]


def _library() -> type[Library]:
    from serve.handlers.vllm.library import Library

    return Library


def _bytes_in(folder: Path) -> int:
    found = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not found:
        raise InternalError(f"{folder} holds no *.safetensors file.")
    return found
