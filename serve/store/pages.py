"""Pages of what a tenant owns: by time and then id, from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from serve.errors import InvalidRequest, NotFound
from serve.store.records import Order, Page
from serve.store.tables import ConversationRow, FileRow, FineTuningJobRow

R = TypeVar("R", ConversationRow, FileRow, FineTuningJobRow)
T = TypeVar("T")


def check_page(limit: int, most: int, order: Order) -> None:
    """Raise ``InvalidRequest`` where there can be no such page."""
    if not 1 <= limit <= most:
        raise InvalidRequest(f"limit is from 1 to {most}, not {limit}.", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order is 'asc' or 'desc'.", param="order")


def read_page(
    session: Session,
    kind: type[R],
    query: Select[R],
    tenant: str,
    *,
    limit: int,
    after: str | None,
    order: Order,
    item: Callable[[R], T],
    missing: Callable[[str], NotFound],
) -> Page[T]:
    """The page of ``query``'s rows that follows the tenant's row ``after``.

    Args:
        item: makes plain data of a row.
        missing: the error where there is no row ``after``, which it raises.
    """
    place = tuple_(kind.created_at, kind.id)
    if after is not None:
        last = session.execute(
            select(kind.created_at, kind.id).where(kind.id == after, kind.tenant == tenant)
        ).first()
        if last is None:
            raise missing(after)
        query = query.where(place > tuple(last) if order == "asc" else place < tuple(last))
    columns = (kind.created_at, kind.id)
    query = query.order_by(*(column.asc() if order == "asc" else column.desc() for column in columns))
    rows = session.scalars(query.limit(limit + 1)).all()
    return Page(tuple(item(row) for row in rows[:limit]), has_more=len(rows) > limit)
