"""Usage: requests and tokens, summed for each key, model and UTC day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.store.database import Database
from serve.store.records import UsageRecord, UsageTotal
from serve.store.tables import UsageRow
from serve.store.upsert import INSERTS

_KEY = ("key_id", "model", "day")
_COUNTS = ("requests", "prompt_tokens", "completion_tokens")


class Usage:
    """What every key used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, batch: Iterable[UsageRecord]) -> None:
        """Add records to the sums, all of them or, on an error, none."""
        rows = _summed(batch)
        if not rows:
            return

        def work(session: Session) -> None:
            insert = INSERTS[session.get_bind().dialect.name](UsageRow)
            sums = {name: getattr(UsageRow, name) + insert.excluded[name] for name in _COUNTS}
            upsert = insert.on_conflict_do_update(index_elements=_KEY, set_=sums)
            session.connection().execute(upsert, rows)

        await self._database.write(work)

    async def totals(self, key_id: str | None = None, since: date | None = None) -> tuple[UsageTotal, ...]:
        """Sums for each key and model, sorted by both.

        Args:
            key_id: only this key's; none means every key's.
            since: only from this UTC day on; none means ever.
        """
        sums = [func.sum(getattr(UsageRow, name)) for name in _COUNTS]
        query = select(UsageRow.key_id, UsageRow.model, *sums)
        if key_id is not None:
            query = query.where(UsageRow.key_id == key_id)
        if since is not None:
            query = query.where(UsageRow.day >= since)
        query = query.group_by(UsageRow.key_id, UsageRow.model).order_by(UsageRow.key_id, UsageRow.model)

        def work(session: Session) -> tuple[UsageTotal, ...]:
            # PostgreSQL sums integers to decimals.
            return tuple(UsageTotal(key, model, *map(int, counts)) for key, model, *counts in session.execute(query))

        return await self._database.read(work)


def _summed(batch: Iterable[UsageRecord]) -> list[dict[str, Any]]:
    """One row for each key, model and day; sorted, so that two batches lock rows in one order."""
    sums: dict[tuple[str, str, date], Counter[str]] = {}
    for record in batch:
        counts = sums.setdefault((record.key_id, record.model, record.at.astimezone(UTC).date()), Counter())
        counts.update({name: getattr(record, name) for name in _COUNTS})
    return [dict(zip(_KEY, key, strict=True)) | {name: sums[key][name] for name in _COUNTS} for key in sorted(sums)]
