"""One model in one replica's memory: loaded when there is room, unloaded when others need it and it is idle.

A model that is never unloaded (``residency: always``) is accounted for all the same.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from serve.errors import ModelResting, Unavailable
from serve.handlers.base import Capabilities, Handler
from serve.residency.desk import LedgerLine, LedgerLost, this_process
from serve.residency.ledger import IDLE_SECONDS, NOTHING, Reply, Report, State
from serve.residency.need import Need

logger = logging.getLogger(__name__)

#: How long a call to the ledger waits for a reply; also how old its picture of an unchanged replica may be.
FOLLOW_SECONDS = 2.0
_WANT_SECONDS = 0.5
_RETRY_SECONDS = 0.5


class DoesNotFit(Exception):
    """The model can never be loaded on this node; the message has both numbers."""


@dataclass
class _Want:
    """A load under way, and how many wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0


class Resident:
    """A handler whose memory the node's ledger knows.

    Attributes:
        handler: what is loaded and unloaded.
        state: as the ledger knows it.
    """

    def __init__(self, handler: Handler, line: LedgerLine, need: Need) -> None:
        self.handler = handler
        self.state: State = "resting"
        self._line = line
        self._need = need
        self._on_demand = handler.settings.residency == "on_demand"
        self._model = handler.settings.id
        self._holder = this_process()
        self._process = psutil.Process()
        self._busy = 0
        self._used = time.monotonic()
        self._capabilities = Capabilities()
        self._changing = asyncio.Lock()
        self._want: _Want | None = None
        self._on_load: list[Callable[[], None]] = []
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load for the first time, which also shows that the model can be loaded, and follow the ledger from then on.

        Raises:
            DoesNotFit: it never can be.
        """
        await self.load()
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Unload for good."""
        if self._follower is not None:
            self._follower.cancel()
        if self._want is not None:
            self._want.task.cancel()
        await self.handler.unload()

    def check(self) -> None:
        """Raise when the ledger is no longer followed, so that the replica is replaced."""
        if self._follower is not None and self._follower.done():
            raise Unavailable("The replica no longer follows the ledger of its node's memory.")

    def on_load(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` whenever the model is loaded anew: what was added to the handler is gone then."""
        self._on_load.append(tell)

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do, as it was when it was loaded last."""
        if self.state == "loaded" or not self._on_demand:
            self._capabilities = self.handler.capabilities
        return self._capabilities

    @property
    def need(self) -> Need:
        """What it was estimated to hold."""
        return self._need

    def report(self) -> Report:
        """What the ledger is told."""
        return Report(
            model=self._model,
            state=self.state,
            need=self._need.model,
            resident=self._process.memory_info().rss,
            on_demand=self._on_demand,
            busy=self._busy,
            idle_seconds=0.0 if self._busy else time.monotonic() - self._used,
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model in memory for the length of a block.

        Raises:
            ModelResting: it is not there.
        """
        if self._on_demand and self.state != "loaded":
            raise ModelResting(self._model)
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._used = time.monotonic()

    async def load(self) -> None:
        """Bring the model into memory; all who ask meanwhile wait for the same load. When they have all left before
        there is room, it is given up.

        Raises:
            DoesNotFit: there can never be room for it.
        """
        if self.state == "loaded":
            return
        want = self._want
        if want is None:
            want = self._want = _Want(asyncio.create_task(self._bring()))
            want.task.add_done_callback(self._forget_want)
        want.waiting += 1
        try:
            await asyncio.shield(want.task)
        finally:
            want.waiting -= 1
            if not want.waiting and self.state == "waiting":
                want.task.cancel()

    def _forget_want(self, task: asyncio.Task[None]) -> None:
        self._want = None
        if not task.cancelled():
            task.exception()  # Whoever waited has it; nobody may have.

    async def _bring(self) -> None:
        async with self._changing:
            capabilities = self._capabilities
            began = time.monotonic()
            self.state = "waiting"
            try:
                await self._get_room()
                self.state = "loading"
                await self.handler.load()
                capabilities = self.handler.capabilities
                self.state = "loaded"
                for tell in self._on_load:
                    tell()
            finally:
                self._capabilities = capabilities
                if self.state != "loaded":
                    if self.state == "loading":
                        await self._unload()
                    self.state = "resting"
                self._used = time.monotonic()
                await self._sync()
            logger.info(
                "model in memory",
                extra={"model": self._model, "seconds": round(time.monotonic() - began, 3), "need": self._need.model},
            )

    async def _get_room(self) -> None:
        """Wait until the ledger grants the memory."""
        while not (reply := await self._sync(_WANT_SECONDS)).granted:
            if reply.refused:
                raise DoesNotFit(reply.refused)

    async def _follow(self) -> None:
        while True:
            if (await self._sync(FOLLOW_SECONDS)).unload:
                await self._rest()

    async def _rest(self) -> None:
        """Give the memory back, unless a request has come since."""
        async with self._changing:
            if self._busy or self.state != "loaded" or time.monotonic() - self._used < IDLE_SECONDS:
                return
            self._capabilities = self.handler.capabilities
            self.state = "unloading"
            await self._sync()
            await self._unload()
            self.state = "resting"
            logger.info("model unloaded to make room", extra={"model": self._model, "freed": self._need.model})
            await self._sync()

    async def _unload(self) -> None:
        await self.handler.unload()
        return_memory()

    async def _sync(self, wait: float = 0) -> Reply:
        """Say what is and hear what is to be done. What a lost ledger does not hear is in the next call, too."""
        try:
            return await self._line.sync(self._holder, self.report(), wait)
        except LedgerLost as lost:
            logger.warning("the ledger does not answer", extra={"model": self._model, "reason": str(lost)})
            await asyncio.sleep(min(wait, _RETRY_SECONDS))
            return NOTHING


def return_memory() -> None:
    """Give what the C library keeps of freed memory back to the system; glibc keeps small blocks for later."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
