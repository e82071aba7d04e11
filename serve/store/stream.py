"""Conversations with the feedback on them, a batch at a time, of one tenant or of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from serve.store.conversations import conversation_of
from serve.store.feedback import feedback_of
from serve.store.records import Conversation, Feedback
from serve.store.tables import ConversationRow, FeedbackRow

Rated = tuple[Conversation, tuple[Feedback, ...]]


def read_batch(
    *,
    tenant: str | None,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Callable[[Session], Sequence[Rated]]:
    """The work of reading the first ``limit`` conversations after the time and id ``after``, oldest first."""
    query = _query(tenant, model, since, until, after).limit(limit)

    def work(session: Session) -> Sequence[Rated]:
        conversations = [conversation_of(row) for row in session.scalars(query)]
        feedback: dict[str, list[Feedback]] = {one.id: [] for one in conversations}
        said = select(FeedbackRow).where(FeedbackRow.conversation_id.in_(list(feedback)))
        for row in session.scalars(said.order_by(FeedbackRow.created_at, FeedbackRow.id)):
            feedback[row.conversation_id].append(feedback_of(row))
        return [(one, tuple(feedback[one.id])) for one in conversations]

    return work


def _query(
    tenant: str | None,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
    after: tuple[datetime, str] | None,
) -> Select[ConversationRow]:
    query = select(ConversationRow)
    if tenant is not None:
        query = query.where(ConversationRow.tenant == tenant)
    if model is not None:
        query = query.where(ConversationRow.model == model)
    if since is not None:
        query = query.where(ConversationRow.created_at >= since)
    if until is not None:
        query = query.where(ConversationRow.created_at < until)
    if after is not None:
        query = query.where(tuple_(ConversationRow.created_at, ConversationRow.id) > after)
    return query.order_by(ConversationRow.created_at, ConversationRow.id)
