"""Answers through Ray's object plane, for clusters where Serve runs no HAProxy (macOS, Windows)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from serve.cluster import model_handle
from serve.errors import QueueFull
from serve.gateway.transport.base import MODELS, TASKS, Answer, RawHeaders, ReplicaLost, Transport
from serve.settings.gateway import Timeouts


class HandleTransport(Transport):
    """Serve handles, one for each model."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._handles: dict[str, Any] = {}

    async def ask(
        self, model: str, method: str, path: str, headers: RawHeaders, body: bytes, mount: str = MODELS
    ) -> Answer:
        """Call ``ask`` of some replica and wait for its first piece."""
        try:
            if model not in self._handles:
                # On the event loop, because a handle may keep its router there; it asks the controller once.
                self._handles[model] = model_handle(model)
            pieces = self._handles[model].ask.remote(method, path, headers, body)
        except RayServeException as error:
            raise ReplicaLost(str(error), begun=False) from error
        timeouts = self.timeouts
        answer = HandleAnswer(pieces, timeouts.between_bytes)
        try:
            async with asyncio.timeout(timeouts.task_first_byte if mount == TASKS else timeouts.first_byte):
                await answer.read_head()
        except BackPressureError:
            answer.close()
            raise QueueFull(model) from None
        except (RayError, DeploymentUnavailableError, TimeoutError, StopAsyncIteration) as error:
            answer.close()
            raise ReplicaLost(str(error) or type(error).__name__, begun=False) from error
        except BaseException:
            answer.close()
            raise
        return answer

    async def close(self) -> None:
        """Forget the handles."""
        self._handles.clear()


class HandleAnswer(Answer):
    """An answer whose pieces come through a handle."""

    def __init__(self, pieces: Any, timeout: float) -> None:  # noqa: ANN401 - Ray's generator is not typed
        self._pieces = pieces
        self._timeout = timeout
        self._ended = False

    async def read_head(self) -> None:
        """Wait for status and headers."""
        _, self.status, self.headers = await anext(self._pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        try:
            while True:
                async with asyncio.timeout(self._timeout):
                    _, part = await anext(self._pieces)
                yield part
        except StopAsyncIteration:
            self._ended = True
        except (RayError, TimeoutError) as error:
            raise ReplicaLost(str(error) or "nothing came for too long", begun=True) from error

    def close(self) -> None:
        """Cancel the call when it has not ended."""
        if not self._ended:
            self._pieces.cancel()
