"""Work that goes on beside the requests of a process, for as long as it is wanted."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Watch(ABC):
    """A task that runs from ``start`` to ``close``."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def alive(self) -> bool:
        """Whether it still looks."""
        return self._task is not None and not self._task.done()

    @abstractmethod
    async def _run(self) -> None:
        """Look, again and again; ends only when it is cancelled."""
