"""Where the replicas of one node speak with its ledger: each call says what is, and waits a little for a reply."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

import psutil

from serve.residency.ledger import NOTHING, Holder, Ledger, Reply, Report


class LedgerLost(Exception):
    """The ledger cannot be reached right now; it comes back by itself."""


class LedgerLine(ABC):
    """A replica's way to the ledger of its node."""

    @abstractmethod
    async def sync(self, holder: Holder, report: Report, wait: float) -> Reply:
        """Say what is; gives what is to be done, or nothing when ``wait`` seconds have brought nothing.

        Raises:
            LedgerLost: it must be said again later.
        """


class Desk(LedgerLine):
    """A ledger and those that wait for its replies. All calls are made on one event loop.

    Args:
        alive: tells whether a replica's process still runs.
        quiet: seconds in which nothing is granted, for a ledger that begins anew among replicas that hold memory.
    """

    def __init__(self, ledger: Ledger, alive: Callable[[Holder], bool], *, quiet: float = 0.0) -> None:
        self._ledger = ledger
        self._alive = alive
        self._opens = ledger.clock() + quiet
        self._changed = asyncio.Condition()

    async def sync(self, holder: Holder, report: Report, wait: float) -> Reply:
        """Take a report, and reply as soon as there is something to say."""
        gone = self._forget_dead()
        changed = self._ledger.take(holder, report)
        async with self._changed:
            # Whoever waits has to look again now and then, too, because models become idle by waiting.
            if changed or gone or report.state == "waiting":
                self._changed.notify_all()
            try:
                async with asyncio.timeout(wait):
                    while (reply := self._reply(holder)) == NOTHING:
                        await self._changed.wait()
            except TimeoutError:
                return NOTHING
            return reply

    def holders(self) -> list[Holder]:
        """The replicas that have spoken and live."""
        self._forget_dead()
        return self._ledger.holders()

    def reports(self) -> list[Report]:
        """What each replica that lives said last."""
        self._forget_dead()
        return self._ledger.reports()

    def _forget_dead(self) -> list[Holder]:
        gone = [one for one in self._ledger.holders() if not self._alive(one)]
        self._ledger.forget(gone)
        return gone

    def _reply(self, holder: Holder) -> Reply:
        if self._ledger.clock() < self._opens or holder not in self._ledger.holders():
            return NOTHING
        return self._ledger.reply(holder)


def this_process() -> Holder:
    """The process that asks."""
    process = psutil.Process()
    return Holder(process.pid, process.create_time())


def is_alive(holder: Holder) -> bool:
    """Whether a process of this node still runs."""
    try:
        return psutil.Process(holder.pid).create_time() == holder.started
    except psutil.NoSuchProcess:
        return False
