"""Transactions for coroutines: each runs on one of a few threads, so that an event loop never waits for disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from serve.errors import Unavailable
from serve.store import engine as engines
from serve.store import migrate

THREADS = 4

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Database:
    """A migrated database and the threads that talk to it."""

    def __init__(self, url: str) -> None:
        self.url = engines.parse(url)
        self._running: tuple[Engine, ThreadPoolExecutor] | None = None

    async def open(self) -> None:
        """Make the database if need be, bring its schema up to date, and start the threads.

        Raises:
            RuntimeError: already open.
            Unavailable: the database does not answer.
        """
        if self._running is not None:
            raise RuntimeError("the store is already open")
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        try:
            await self._submit(threads, lambda: migrate.upgrade(self.url))
        except BaseException:
            threads.shutdown(wait=False)
            raise
        self._running = engines.create(self.url, connections=THREADS), threads

    async def close(self) -> None:
        """Finish the transactions under way and let go of the database. Safe to call twice."""
        if self._running is None:
            return
        (engine, threads), self._running = self._running, None

        def finish() -> None:
            threads.shutdown()
            engine.dispose()

        await asyncio.to_thread(finish)

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run ``work``, which only reads, in a transaction of its own. Raises as ``write`` does."""
        return await self._transact(work, writes=False)

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction of its own, committed when it returns and undone when it raises.

        Once asked for, it is carried out even if the caller is cancelled, so that an answer whose client has
        just gone is still stored.

        Raises:
            RuntimeError: the store is not open.
            Unavailable: the database does not answer, or stayed locked for 10 s.
        """
        return await self._transact(work, writes=True)

    async def _transact(self, work: Callable[[Session], T], *, writes: bool) -> T:
        if self._running is None:
            raise RuntimeError("the store is not open")
        engine, threads = self._running
        bind = engine.execution_options(**{engines.WRITES: writes})

        def transaction() -> T:
            with Session(bind, expire_on_commit=False) as session, session.begin():
                return work(session)

        return await self._submit(threads, transaction)

    async def _submit(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_log_failure)
            raise
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise Unavailable(
                "The database does not answer; try again shortly.", code="database_unavailable", retry_after=1.0
            ) from error


def _log_failure(future: asyncio.Future[T]) -> None:
    """Report an error that no caller is left to see."""
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("a database call failed after its caller was cancelled", exc_info=error)
