"""Leases: for a while, one process of many may do what only one may do at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from serve.store.database import Database
from serve.store.records import utc_now
from serve.store.tables import LeaseRow
from serve.store.upsert import INSERTS


class Leases:
    """Who holds what. A lease ends by itself, so that one whose holder was killed is free again soon."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that is free, or go on holding it, for ``seconds``; false where somebody else has it."""

        def work(session: Session) -> bool:
            now = _now(session)
            insert = INSERTS[session.get_bind().dialect.name](LeaseRow)
            values = {"name": name, "holder": holder, "expires_at": now + timedelta(seconds=seconds)}
            free = (LeaseRow.expires_at <= now) | (LeaseRow.holder == holder)
            session.execute(
                insert.values(values).on_conflict_do_update(index_elements=["name"], set_=values, where=free)
            )
            return session.scalar(select(LeaseRow.holder).where(LeaseRow.name == name)) == holder

        return await self._database.write(work)

    async def give_back(self, name: str, holder: str) -> None:
        """Let go of a lease, where ``holder`` has it."""
        statement = delete(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder)
        await self._database.write(lambda session: session.execute(statement))


def _now(session: Session) -> datetime:
    """The time by one clock for all: processes with the same SQLite file share a machine, others a server."""
    if session.get_bind().dialect.name == "postgresql":
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return now
    return utc_now()
