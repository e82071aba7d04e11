"""Feedback on stored answers: thumbs, corrections, comments."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serve.errors import Conflict, InvalidRequest
from serve.store.conversations import not_found
from serve.store.database import Database
from serve.store.records import Feedback, Rating, Ratings
from serve.store.tables import ConversationRow, FeedbackRow

#: Ratings that a share is taken of: the latest ones.
_RATINGS = 5000


class FeedbackLog:
    """The feedback on every tenant's conversations; each method sees one tenant's only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, feedback: Feedback) -> None:
        """Store feedback; a conversation can have any number.

        Raises:
            NotFound: the tenant has no such conversation.
            InvalidRequest: the conversation has no such choice.
            Conflict: the feedback's id is taken.
        """

        def work(session: Session) -> None:
            # Locked, so that a deletion at the same time comes before or after, never in between.
            choices = session.scalar(
                select(ConversationRow.choices)
                .where(ConversationRow.id == feedback.conversation_id, ConversationRow.tenant == feedback.tenant)
                .with_for_update(read=True, key_share=True)
            )
            if choices is None:
                raise not_found(feedback.conversation_id, param="conversation_id")
            if feedback.choice_index not in [choice["index"] for choice in choices]:
                raise InvalidRequest(f"The conversation has no choice {feedback.choice_index}.", param="choice_index")
            session.add(_to_row(feedback))
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"The feedback {feedback.id!r} is already stored.", param="id") from error

        await self._database.write(work)

    async def list(self, conversation_id: str, tenant: str) -> tuple[Feedback, ...]:
        """The feedback on one conversation, oldest first.

        Raises:
            NotFound: the tenant has no such conversation.
        """

        def work(session: Session) -> tuple[Feedback, ...]:
            owner = session.scalar(select(ConversationRow.tenant).where(ConversationRow.id == conversation_id))
            if owner != tenant:
                raise not_found(conversation_id)
            rows = session.scalars(
                select(FeedbackRow)
                .where(FeedbackRow.conversation_id == conversation_id)
                .order_by(FeedbackRow.created_at, FeedbackRow.id)
            )
            return tuple(feedback_of(row) for row in rows)

        return await self._database.read(work)

    async def ratings(self, model: str, since: datetime | None = None) -> Ratings:
        """How every tenant rated the answers of ``model``, an id or ``id:adapter``.

        Of several ratings of an answer the latest counts; a correction without a rating is a thumb down.

        Args:
            since: only ratings of this time or later; aware.
        """
        rated = or_(FeedbackRow.rating.is_not(None), FeedbackRow.correction.is_not(None))
        query = (
            select(FeedbackRow.conversation_id, FeedbackRow.choice_index, FeedbackRow.rating)
            .join(ConversationRow, ConversationRow.id == FeedbackRow.conversation_id)
            .where(ConversationRow.model == model, rated)
            .order_by(FeedbackRow.created_at.desc(), FeedbackRow.id.desc())
            .limit(_RATINGS)
        )
        if since is not None:
            query = query.where(FeedbackRow.created_at >= since)

        def work(session: Session) -> Ratings:
            latest: dict[tuple[str, int], str] = {}
            for conversation, choice, rating in session.execute(query):
                latest.setdefault((conversation, choice), rating or "down")
            said = list(latest.values())
            return Ratings(said.count("up"), said.count("down"))

        return await self._database.read(work)


def _to_row(feedback: Feedback) -> FeedbackRow:
    return FeedbackRow(
        id=feedback.id,
        conversation_id=feedback.conversation_id,
        tenant=feedback.tenant,
        created_at=feedback.created_at,
        choice_index=feedback.choice_index,
        rating=feedback.rating,
        correction=feedback.correction,
        comment=feedback.comment,
    )


def feedback_of(row: FeedbackRow) -> Feedback:
    """A row as plain data."""
    return Feedback(
        id=row.id,
        conversation_id=row.conversation_id,
        tenant=row.tenant,
        created_at=row.created_at,
        choice_index=row.choice_index,
        rating=cast("Rating | None", row.rating),
        correction=row.correction,
        comment=row.comment,
    )
