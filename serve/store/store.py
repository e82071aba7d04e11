"""The store: one object that opens the database and holds its parts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import text

from serve.errors import Unavailable
from serve.store.conversations import Conversations
from serve.store.database import Database
from serve.store.feedback import FeedbackLog
from serve.store.files import Files
from serve.store.jobs import Jobs
from serve.store.keys import Keys
from serve.store.leases import Leases
from serve.store.records import Conversation, Feedback
from serve.store.stream import read_batch
from serve.store.usage import Usage

logger = logging.getLogger(__name__)


class Store:
    """Conversations, feedback, files, fine-tuning jobs, keys and usage in one database.

    Every call is a coroutine, does its work on the store's own threads in one transaction, and raises
    ``serve.errors.Unavailable`` where the database does not answer. Also an asynchronous context manager that
    opens and closes.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql+psycopg://USER:PASSWORD@HOST/DATABASE``.

    Raises:
        ValueError: the URL is not one of these.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.conversations = Conversations(self._database)
        self.feedback = FeedbackLog(self._database)
        self.files = Files(self._database)
        self.jobs = Jobs(self._database)
        self.keys = Keys(self._database)
        self.leases = Leases(self._database)
        self.usage = Usage(self._database)

    def __repr__(self) -> str:
        # Not the URL: a password can stand in its query as well.
        return f"<Store {self._database.url.drivername}>"

    async def open(self) -> None:
        """Make the database's folder if need be, bring the schema up to date, start the threads.

        Safe in many processes at once. Raises ``RuntimeError`` when open already.
        """
        await self._database.open()

    async def close(self) -> None:
        """Finish what is under way and let go of the database. Safe to call twice."""
        await self._database.close()

    async def stream(
        self,
        *,
        tenant: str | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        batch: int = 100,
    ) -> AsyncIterator[tuple[Conversation, tuple[Feedback, ...]]]:
        """Every conversation with the feedback on it, both oldest first; in memory are at most ``batch`` of them.

        Args:
            tenant: only theirs; none for everybody's, which is for the operator alone.
            model: only those that this model answered.
            since, until: only those of this time or later, and before this time; aware.
            batch: conversations read in one transaction. What is added or deleted between two of them is, or is
                not, among what follows.
        """
        after: tuple[datetime, str] | None = None
        while True:
            found = await self._database.read(
                read_batch(tenant=tenant, model=model, since=since, until=until, after=after, limit=batch)
            )
            for one in found:
                yield one
            if len(found) < batch:
                return
            last = found[-1][0]
            after = last.created_at, last.id

    async def healthy(self) -> bool:
        """Whether the database answers; why not goes to the log."""
        try:
            await self._database.read(lambda session: session.execute(text("SELECT 1")))
        except Unavailable as error:
            logger.warning("the database does not answer: %s", error.__cause__)
            return False
        return True

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
