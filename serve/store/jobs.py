"""Fine-tuning jobs: added once, changed by one at a time, listed by pages, with what happened to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from typing import Any, cast

from sqlalchemy import CursorResult, Select, func, or_, select, update
from sqlalchemy.orm import Session

from serve.errors import InvalidRequest, NotFound
from serve.store.database import Database
from serve.store.locks import lock_tenant
from serve.store.pages import check_page, read_page
from serve.store.records import FineTuningJob, JobEvent, JobRoom, Level, Page
from serve.store.tables import FineTuningEventRow, FineTuningJobRow, FineTuningMetadataRow
from serve.store.values import checked_metadata, clean_json

MAX_PAGE = 100
#: States in which something is still to be done for a job.
ACTIVE = ("validating_files", "queued", "running")
#: States that a job has not left for good.
UNFINISHED = (*ACTIVE, "paused")


class Jobs:
    """The fine-tuning jobs of every tenant; the methods that take a tenant see that one's only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, job: FineTuningJob, room: JobRoom, event: JobEvent) -> FineTuningJob:
        """Add a job, with what its creation is told by; the job that its idempotency key made before, where there is
        one.

        Raises:
            InvalidRequest: there is no room for it; the key belongs to another request; metadata beyond the limits.
        """
        row = _to_row(replace(job, metadata=checked_metadata(job.metadata)))

        def work(session: Session) -> FineTuningJob:
            lock_tenant(session, "jobs", job.tenant)
            if (before := _made_before(session, job)) is not None:
                return before
            _require_fewer(session, job.tenant, room.unfinished)
            _require_bytes(session, job, room)
            session.add(row)
            session.flush()
            session.add_all(_event_rows(job.id, 0, [event]))
            return _job_of(row)

        return await self._database.write(work)

    async def repeated(self, job: FineTuningJob) -> FineTuningJob | None:
        """The job that the idempotency key of ``job`` made before.

        Raises:
            InvalidRequest: the key belongs to another request.
        """
        return await self._database.read(lambda session: _made_before(session, job))

    async def get(self, id: str, tenant: str) -> FineTuningJob:
        """One job.

        Raises:
            NotFound: there is none of that id, or it is another tenant's.
        """

        def work(session: Session) -> FineTuningJob:
            return _job_of(_found(session, id, tenant))

        return await self._database.read(work)

    async def list(
        self,
        tenant: str,
        *,
        limit: int = 20,
        after: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page[FineTuningJob]:
        """A page of jobs, newest first.

        Args:
            limit: most to return, from 1 to 100.
            after: id of the last one of the page before; none for the first page.
            metadata: only those that have all these pairs.

        Raises:
            InvalidRequest: ``limit`` is not one of those.
            NotFound: the tenant has no job ``after``.
        """
        check_page(limit, MAX_PAGE, "desc")
        query = select(FineTuningJobRow).where(FineTuningJobRow.tenant == tenant)
        for key, value in (metadata or {}).items():
            pair = (FineTuningMetadataRow.key == key) & (FineTuningMetadataRow.value == value)
            query = query.where(FineTuningJobRow.pairs.any(pair))
        return await self._database.read(
            lambda session: read_page(
                session,
                FineTuningJobRow,
                query,
                tenant,
                limit=limit,
                after=after,
                order="desc",
                item=_job_of,
                missing=partial(not_found, param="after"),
            )
        )

    async def active(self) -> tuple[FineTuningJob, ...]:
        """Every tenant's jobs for which something is to be done, oldest first."""
        query = (
            select(FineTuningJobRow)
            .where(or_(FineTuningJobRow.status.in_(ACTIVE), FineTuningJobRow.wanted.is_not(None)))
            .order_by(FineTuningJobRow.created_at, FineTuningJobRow.id)
        )
        return await self._database.read(lambda session: tuple(map(_job_of, session.scalars(query))))

    async def runs_ended_before(self, at: datetime) -> tuple[str, ...]:
        """The runs of every tenant's jobs that ended before ``at``."""
        row = FineTuningJobRow
        query = select(row.run).where(row.finished_at < at, row.status.not_in(UNFINISHED))
        return await self._database.read(lambda session: tuple(session.scalars(query)))

    async def forget_copies(self, run: str) -> None:
        """Note that nothing is left of the copies in a run's folder."""
        row = FineTuningJobRow
        statement = update(row).where(row.run == run, row.copied_bytes != 0)
        await self._database.write(
            lambda session: session.execute(statement.values(copied_bytes=0, revision=row.revision + 1))
        )

    async def change(
        self,
        before: FineTuningJob,
        *events: JobEvent,
        most: int | None = None,
        **values: Any,  # noqa: ANN401 - fields of a job
    ) -> FineTuningJob | None:
        """Change columns of a job and add to what happened to it, both or neither; the job as it is then.

        None where the job has been changed since ``before`` was read: look at it again.

        Args:
            most: how many unfinished jobs the tenant may have, where this one is to become one again.

        Raises:
            InvalidRequest: the tenant has as many.
        """
        row = FineTuningJobRow
        wanted = {**values, "revision": before.revision + 1}

        def work(session: Session) -> FineTuningJob | None:
            if most is not None:
                lock_tenant(session, "jobs", before.tenant)
                _require_fewer(session, before.tenant, most)
            statement = update(row).where(row.id == before.id, row.revision == before.revision).values(wanted)
            if cast(CursorResult[Any], session.execute(statement)).rowcount == 0:
                return None
            last = select(func.coalesce(func.max(FineTuningEventRow.position), 0))
            last = last.where(FineTuningEventRow.job_id == before.id)
            session.add_all(_event_rows(before.id, session.scalars(last).one(), events))
            return replace(before, **values, revision=before.revision + 1)

        return await self._database.write(work)

    async def events(
        self,
        id: str,
        tenant: str,
        *,
        limit: int = 20,
        after: int | None = None,
    ) -> Page[JobEvent]:
        """A page of what happened to a job, newest first.

        Args:
            limit: most to return, from 1 to 100.
            after: the position of the last one of the page before; none for the first page.

        Raises:
            InvalidRequest: ``limit`` is not one of those.
            NotFound: as ``get``.
        """
        return await self._page(_events_of(id), id, tenant, limit, after)

    async def checkpoints(
        self, id: str, tenant: str, steps: Collection[int], *, limit: int = 10, after: int | None = None
    ) -> Page[JobEvent]:
        """A page of the events that tell of a job's checkpoints, newest first; the last one of each step.

        Args:
            steps: only those of these steps.
            limit, after: as ``events``.

        Raises:
            As ``events``.
        """
        row = FineTuningEventRow
        last = select(func.max(row.position)).where(row.job_id == id, row.kind == "checkpoint", row.step.in_(steps))
        query = _events_of(id).where(row.position.in_(last.group_by(row.step)))
        return await self._page(query, id, tenant, limit, after)

    async def _page(
        self, query: Select[FineTuningEventRow], id: str, tenant: str, limit: int, after: int | None
    ) -> Page[JobEvent]:
        check_page(limit, MAX_PAGE, "desc")
        if after is not None:
            query = query.where(FineTuningEventRow.position < after)

        def work(session: Session) -> Page[JobEvent]:
            _found(session, id, tenant)
            rows = session.scalars(query.limit(limit + 1)).all()
            return Page(tuple(map(_event_of, rows[:limit])), has_more=len(rows) > limit)

        return await self._database.read(work)


def not_found(id: str, param: str | None = None) -> NotFound:
    """The error for a job that is not there, or not this tenant's: the two look alike from outside."""
    return NotFound(f"There is no fine-tuning job {id!r}.", param=param)


def _made_before(session: Session, job: FineTuningJob) -> FineTuningJob | None:
    if job.idempotency_key is None:
        return None
    row = session.scalar(
        select(FineTuningJobRow).where(
            FineTuningJobRow.tenant == job.tenant, FineTuningJobRow.idempotency_key == job.idempotency_key
        )
    )
    if row is not None and row.fingerprint != job.fingerprint:
        raise InvalidRequest(
            "This Idempotency-Key was sent with another request before; use a new one for a new job.",
            code="idempotency_key_reused",
        )
    return None if row is None else _job_of(row)


def _require_bytes(session: Session, job: FineTuningJob, room: JobRoom) -> None:
    row = FineTuningJobRow
    # After the tenant's own lock, always: so that no two wait for each other.
    lock_tenant(session, "copies of jobs", "everybody")
    taken = select(func.coalesce(func.sum(row.copied_bytes), 0))
    for query, most, whose in (
        (taken.where(row.tenant == job.tenant), room.copied_bytes, "your jobs"),
        (taken, room.all_copied_bytes, "everybody's jobs"),
    ):
        # PostgreSQL sums big integers to decimals.
        if (kept := int(session.scalars(query).one())) + job.copied_bytes > most:
            raise InvalidRequest(
                f"Jobs keep copies of their files until they succeed or are cancelled: there is room for {most} bytes"
                f" of {whose}, {kept} are taken, and this one's files have {job.copied_bytes}. Cancel paused or"
                " failed ones, or wait for one.",
                param="training_file",
                code="quota_exceeded",
            )


def _require_fewer(session: Session, tenant: str, most: int) -> None:
    row = FineTuningJobRow
    count = select(func.count()).where(row.tenant == tenant, row.status.in_(UNFINISHED))
    if session.scalars(count).one() >= most:
        raise InvalidRequest(
            f"{most} fine-tuning jobs are unfinished, the most at once; cancel one, or wait for one.",
            code="quota_exceeded",
        )


def _found(session: Session, id: str, tenant: str) -> FineTuningJobRow:
    row = session.scalar(select(FineTuningJobRow).where(FineTuningJobRow.id == id, FineTuningJobRow.tenant == tenant))
    if row is None:
        raise not_found(id)
    return row


def _events_of(id: str) -> Select[FineTuningEventRow]:
    return (
        select(FineTuningEventRow).where(FineTuningEventRow.job_id == id).order_by(FineTuningEventRow.position.desc())
    )


def _event_rows(job_id: str, last: int, events: Sequence[JobEvent]) -> list[FineTuningEventRow]:
    return [
        FineTuningEventRow(
            job_id=job_id,
            position=position,
            at=event.at,
            level=event.level,
            kind=event.kind,
            message=event.message,
            step=event.step,
            data=clean_json(event.data, "data"),
        )
        for position, event in enumerate(events, start=last + 1)
    ]


def _event_of(row: FineTuningEventRow) -> JobEvent:
    level = cast(Level, row.level)
    return JobEvent(row.at, row.message, level, row.kind, row.step, row.data, row.position)


def _to_row(job: FineTuningJob) -> FineTuningJobRow:
    pairs = [FineTuningMetadataRow(key=key, value=value) for key, value in job.metadata.items()]
    return FineTuningJobRow(pairs=pairs, **{name: getattr(job, name) for name in _FIELDS})


def _job_of(row: FineTuningJobRow) -> FineTuningJob:
    metadata = {pair.key: pair.value for pair in row.pairs}
    return FineTuningJob(metadata=metadata, **{name: getattr(row, name) for name in _FIELDS})


#: A job's fields that are columns; metadata has a table of its own, and stays as it was at the beginning.
_FIELDS = tuple(field.name for field in fields(FineTuningJob) if field.name != "metadata")
