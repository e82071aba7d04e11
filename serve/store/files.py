"""Uploaded files: add within a tenant's room, read, list by pages, delete, and find what is left over."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, func, or_, select
from sqlalchemy.orm import Session

from serve.errors import InvalidRequest, NotFound
from serve.store.database import Database
from serve.store.locks import lock_tenant
from serve.store.pages import check_page, read_page
from serve.store.records import FileRoom, Order, Page, StoredFile, utc_now
from serve.store.tables import FileRow

MAX_PAGE = 10_000


class Files:
    """The files of every tenant; the methods that take a tenant see that one's only, and none that has expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, file: StoredFile, room: FileRoom) -> None:
        """Store a file that fits.

        Raises:
            InvalidRequest: the tenant would have more than there is room for; ``quota_exceeded``.
        """

        def work(session: Session) -> None:
            lock_tenant(session, "files", file.tenant)
            _check_room(session, file.tenant, file.bytes, room)
            session.add(_to_row(file))

        await self._database.write(work)

    async def check_room(self, tenant: str, more: int, room: FileRoom) -> None:
        """Raise as ``add`` does where a file of ``more`` bytes does not fit now."""
        await self._database.read(lambda session: _check_room(session, tenant, more, room))

    async def get(self, id: str, tenant: str) -> StoredFile:
        """One file.

        Raises:
            NotFound: there is none of that id, it has expired, or it is another tenant's.
        """

        def work(session: Session) -> StoredFile:
            row = session.scalar(select(FileRow).where(FileRow.id == id, *_of(tenant)))
            if row is None:
                raise not_found(id)
            return _file_of(row)

        return await self._database.read(work)

    async def list(
        self,
        tenant: str,
        *,
        limit: int = MAX_PAGE,
        after: str | None = None,
        order: Order = "desc",
        purpose: str | None = None,
    ) -> Page[StoredFile]:
        """A page of files, by time and then id.

        Args:
            limit: most to return, from 1 to 10000.
            after: id of the last one of the page before; none for the first page.
            order: ``asc`` begins with the oldest, ``desc`` with the newest.
            purpose: only those of this purpose.

        Raises:
            InvalidRequest: ``limit`` or ``order`` is not one of those.
            NotFound: the tenant has no file ``after``.
        """
        check_page(limit, MAX_PAGE, order)
        query = select(FileRow).where(*_of(tenant))
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        return await self._database.read(
            lambda session: read_page(
                session,
                FileRow,
                query,
                tenant,
                limit=limit,
                after=after,
                order=order,
                item=_file_of,
                missing=partial(not_found, param="after"),
            )
        )

    async def delete(self, id: str, tenant: str) -> None:
        """Delete a file's row; its content is the caller's to remove.

        Raises:
            NotFound: as ``get``.
        """

        def work(session: Session) -> None:
            statement = delete(FileRow).where(FileRow.id == id, *_of(tenant))
            if cast(CursorResult[Any], session.execute(statement)).rowcount == 0:
                raise not_found(id)

        await self._database.write(work)

    async def expired(self) -> tuple[str, ...]:
        """The ids of every tenant's files that have expired and still have a row."""
        query = select(FileRow.id).where(FileRow.expires_at <= utc_now())
        return await self._database.read(lambda session: tuple(session.scalars(query)))

    async def drop(self, id: str) -> None:
        """Delete the row of any tenant's file, where there is one."""
        await self._database.write(lambda session: session.execute(delete(FileRow).where(FileRow.id == id)))

    async def known(self, id: str) -> bool:
        """Whether any tenant's file has this id."""
        query = select(FileRow.id).where(FileRow.id == id)
        return await self._database.read(lambda session: session.scalar(query) is not None)


def not_found(id: str, param: str | None = None) -> NotFound:
    """The error for a file that is not there, or not this tenant's: the two look alike from outside."""
    return NotFound(f"There is no file {id!r}.", param=param)


def _of(tenant: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return FileRow.tenant == tenant, or_(FileRow.expires_at.is_(None), FileRow.expires_at > utc_now())


def _check_room(session: Session, tenant: str, more: int, room: FileRoom) -> None:
    sums = select(func.count(), func.coalesce(func.sum(FileRow.bytes), 0)).where(*_of(tenant))
    count, taken = session.execute(sums).one()
    # PostgreSQL sums big integers to decimals.
    if count + 1 > room.count:
        raise _full(f"There is room for {room.count} files, and {count} are stored; delete some.")
    if int(taken) + more > room.bytes:
        raise _full(f"There is room for {room.bytes} bytes of files, and {int(taken)} are taken; delete some.")


def _full(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="file", code="quota_exceeded")


def _to_row(file: StoredFile) -> FileRow:
    return FileRow(**{name: getattr(file, name) for name in _FIELDS})


def _file_of(row: FileRow) -> StoredFile:
    return StoredFile(**{name: getattr(row, name) for name in _FIELDS})


_FIELDS = ("id", "tenant", "created_at", "expires_at", "filename", "purpose", "bytes", "sha256", "validation")
