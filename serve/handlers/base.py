"""The contract that every model handler keeps, and the registry that finds one by name.

A handler runs one model in one replica. It is loaded once, then asked to generate or to embed, many requests at
a time on one event loop; heavy work goes to threads of its own. Errors are raised (``serve.errors``), never
yielded. To cancel a request, close its stream: the handler then stops the work at once.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import AdapterRefused, InvalidRequest
from serve.protocol.events import Embeddings, Event
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from serve.protocol.sampling import Sampling
from serve.settings.model import ModelSettings
from serve.settings.pictures import PictureGrid

# What became ready at once; never empty.
EventStream = AsyncGenerator[Sequence[Event], None]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a loaded model can do, as plain data.

    Attributes:
        context: most tokens of prompt and answer together.
        dimensions: length of an embedding; none where the model does not embed.
        pictures: how it sees pictures; none where it sees none, or where that is not known.
    """

    chat: bool = False
    completion: bool = False
    embeddings: bool = False
    tools: bool = False
    structured_output: bool = False
    vision: bool = False
    reasoning: bool = False
    logprobs: bool = False
    context: int | None = None
    dimensions: int | None = None
    pictures: PictureGrid | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a handler is right now.

    Attributes:
        slots: sequences that can generate at once. active: how many do. queued: choices that wait for a slot.
        queued_tokens: prompt tokens not yet processed.
        tokens_per_second: generated tokens, averaged over the last 10 s.
        prompt_tokens_per_second: how quickly prompts are processed while there are any; 0 before the first.
        memory_bytes: what the model and its caches hold. cache_use: the part of the cache that is taken, 0 to 1.
        circuit_open: whether requests are refused at once, because a server that the model is on does not answer.
    """

    slots: int = 0
    active: int = 0
    queued: int = 0
    queued_tokens: int = 0
    tokens_per_second: float = 0.0
    prompt_tokens_per_second: float = 0.0
    memory_bytes: int = 0
    cache_use: float = 0.0
    circuit_open: bool = False


class Handler(ABC):
    """One model in one replica."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings

    @abstractmethod
    async def load(self) -> None:
        """Make the model ready to answer. Raises when it cannot be loaded, naming what is wrong."""

    @abstractmethod
    async def unload(self) -> None:
        """Give the model's memory back; running requests end with an error. Safe to call twice."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the model can do; valid once loaded."""

    @abstractmethod
    def load_now(self) -> Load:
        """How busy the handler is; cheap, called for every metric report."""

    async def check(self) -> None:
        """Raise when the handler can no longer answer, so that Serve replaces the replica."""
        return

    @property
    def chat_template_sha256(self) -> str | None:
        """SHA-256 of the text of the chat template, where the handler knows it; an adapter that was trained with
        another one is refused."""
        return None

    async def add_adapter(self, name: str, folder: Path) -> None:
        """Make the adapter in ``folder`` ready to answer requests whose ``adapter`` is ``name``.

        The folder holds ``adapter_config.json`` and ``adapter_model.safetensors`` as PEFT saves them, on this node;
        it stays as it is for as long as the adapter does. A name stands for one content: one that was added is
        never added again before it was removed.

        Raises:
            AdapterRefused: it does not fit: rank, shapes, or what it asks for. Nothing has changed then.
        """
        raise AdapterRefused(f"The handler {self.settings.handler!r} takes no adapters.")

    async def remove_adapter(self, name: str) -> None:
        """Give an adapter's memory back. No request runs on it any more, and none will ask for it."""
        return

    def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        """Generate an answer: deltas of every choice, then one ``Usage``."""
        raise InvalidRequest(f"The model {self.settings.id!r} cannot chat.", param="model")

    def complete(self, request: CompletionRequest, sampling: Sampling) -> EventStream:
        """Continue a text: deltas of every choice, then one ``Usage``."""
        raise InvalidRequest(f"The model {self.settings.id!r} cannot complete text.", param="model")

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Turn texts into vectors."""
        raise InvalidRequest(f"The model {self.settings.id!r} has no embeddings.", param="model")


#: Name in a config -> where the class is. Modules are imported only when the handler is used, so that a node
#: needs only the engines that it runs.
HANDLERS: dict[str, str] = {
    "llamacpp": "serve.handlers.llamacpp.handler:LlamaCppHandler",
    "vllm": "serve.handlers.vllm.handler:VllmHandler",
    "e5": "serve.handlers.e5:E5Handler",
    "echo": "serve.handlers.echo:EchoHandler",
    "upstream": "serve.handlers.upstream.handler:UpstreamHandler",
}


def handler_class(name: str) -> type[Handler]:
    """The handler class registered as ``name``; imports its engine.

    Raises:
        KeyError: no handler has that name; settings are checked before, so this is a fault of the program.
    """
    module, _, attribute = HANDLERS[name].partition(":")
    found: type[Handler] = getattr(importlib.import_module(module), attribute)
    return found
