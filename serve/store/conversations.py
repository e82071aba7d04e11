"""Stored conversations: add, read, list by pages, change the metadata, delete."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from sqlalchemy import CursorResult, Select, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serve.errors import Conflict, NotFound
from serve.store.database import Database
from serve.store.pages import check_page, read_page
from serve.store.records import Conversation, Order, Page
from serve.store.tables import ConversationRow, MetadataRow
from serve.store.values import checked_metadata, clean_json

MAX_PAGE = 100


class Conversations:
    """The conversations of every tenant; each method sees one tenant's only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, conversation: Conversation) -> None:
        """Store a conversation. Text is cleaned as ``serve.store.values`` says.

        Raises:
            Conflict: its id is taken.
            InvalidRequest: metadata beyond the limits of ``checked_metadata``, or JSON nested too deeply.
        """

        def work(session: Session) -> None:
            session.add(_to_row(conversation))
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"The conversation {conversation.id!r} is already stored.", param="id") from error

        await self._database.write(work)

    async def get(self, id: str, tenant: str) -> Conversation:
        """One conversation.

        Raises:
            NotFound: there is none of that id, or it is another tenant's.
        """
        return await self._database.read(lambda session: conversation_of(_find(session, id, tenant)))

    async def list(
        self,
        tenant: str,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Order = "desc",
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page[Conversation]:
        """A page of conversations, by time and then id.

        Args:
            tenant: whose.
            limit: most to return, from 1 to 100.
            after: id of the last one of the page before; none for the first page.
            order: ``asc`` begins with the oldest, ``desc`` with the newest.
            model: only those that this model answered.
            metadata: only those that have all these pairs.

        Raises:
            InvalidRequest: ``limit`` or ``order`` is not one of those.
            NotFound: the tenant has no conversation ``after``.
        """
        check_page(limit, MAX_PAGE, order)
        query = _filtered(tenant, model, metadata or {})
        return await self._database.read(
            lambda session: read_page(
                session,
                ConversationRow,
                query,
                tenant,
                limit=limit,
                after=after,
                order=order,
                item=conversation_of,
                missing=partial(not_found, param="after"),
            )
        )

    async def update_metadata(self, id: str, tenant: str, metadata: Mapping[str, str]) -> Conversation:
        """Replace the whole metadata, and return the conversation as it is now.

        Raises:
            NotFound: there is none of that id, or it is another tenant's.
            InvalidRequest: beyond the limits of ``checked_metadata``.
        """
        pairs = checked_metadata(metadata)

        def work(session: Session) -> Conversation:
            row = _find(session, id, tenant, lock=True)
            row.pairs = _pairs(pairs)
            session.flush()
            return conversation_of(row)

        return await self._database.write(work)

    async def delete(self, id: str, tenant: str) -> None:
        """Delete a conversation with its metadata and feedback.

        Raises:
            NotFound: there is none of that id, or it is another tenant's.
        """

        def work(session: Session) -> None:
            statement = delete(ConversationRow).where(ConversationRow.id == id, ConversationRow.tenant == tenant)
            if cast(CursorResult[Any], session.execute(statement)).rowcount == 0:
                raise not_found(id)

        await self._database.write(work)


def not_found(id: str, param: str | None = None) -> NotFound:
    """The error for a conversation that is not there, or not this tenant's: the two look alike from outside."""
    return NotFound(f"There is no stored conversation {id!r}.", param=param)


def _find(session: Session, id: str, tenant: str, *, lock: bool = False) -> ConversationRow:
    query = select(ConversationRow).where(ConversationRow.id == id, ConversationRow.tenant == tenant)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise not_found(id)
    return row


def _filtered(tenant: str, model: str | None, metadata: Mapping[str, str]) -> Select[ConversationRow]:
    query = select(ConversationRow).where(ConversationRow.tenant == tenant)
    if model is not None:
        query = query.where(ConversationRow.model == model)
    for key, value in metadata.items():
        query = query.where(ConversationRow.pairs.any((MetadataRow.key == key) & (MetadataRow.value == value)))
    return query


def _pairs(metadata: Mapping[str, str]) -> list[MetadataRow]:
    return [MetadataRow(key=key, value=value) for key, value in metadata.items()]


def _to_row(conversation: Conversation) -> ConversationRow:
    return ConversationRow(
        id=conversation.id,
        tenant=conversation.tenant,
        created_at=conversation.created_at,
        model=conversation.model,
        request=clean_json(conversation.request, "request"),
        choices=clean_json(conversation.choices, "choices"),
        usage=clean_json(conversation.usage, "usage"),
        route=conversation.route,
        pairs=_pairs(checked_metadata(conversation.metadata)),
    )


def conversation_of(row: ConversationRow) -> Conversation:
    """A row as plain data."""
    return Conversation(
        id=row.id,
        tenant=row.tenant,
        created_at=row.created_at,
        model=row.model,
        request=row.request,
        choices=row.choices,
        usage=row.usage,
        metadata={pair.key: pair.value for pair in row.pairs},
        route=row.route,
    )
