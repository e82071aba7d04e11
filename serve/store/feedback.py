"""Feedback on stored answers: thumbs, corrections, comments."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import case, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serve.errors import Conflict, InvalidRequest
from serve.store.conversations import not_found
from serve.store.database import Database
from serve.store.records import Feedback, Rating, Ratings
from serve.store.tables import ConversationRow, FeedbackRow


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

    async def ratings(self, model: str, since: datetime | None = None) -> dict[str, Ratings]:
        """How each tenant that rated something rated what ``model``, an id or ``id:adapter``, answered.

        Each conversation counts once, by its latest rating; a correction without a rating is a thumb down. Answers to
        requests that named the adapter, or ``id:base``, do not count: who asks chooses what is rated then.

        Args:
            since: only ratings of this time or later; aware.
        """
        rated = or_(FeedbackRow.rating.is_not(None), FeedbackRow.correction.is_not(None))
        asked = func.coalesce(ConversationRow.request["model"].as_string(), "")
        latest = func.row_number().over(
            partition_by=FeedbackRow.conversation_id, order_by=(FeedbackRow.created_at.desc(), FeedbackRow.id.desc())
        )
        query = (
            select(FeedbackRow.tenant, FeedbackRow.rating, latest.label("place"))
            .join(ConversationRow, ConversationRow.id == FeedbackRow.conversation_id)
            .where(ConversationRow.model == model, asked.not_like("%:%"), rated)
        )
        if since is not None:
            query = query.where(FeedbackRow.created_at >= since)
        said = query.subquery()
        up = func.sum(case((said.c.rating == "up", 1), else_=0))
        sums = select(said.c.tenant, up, func.count()).where(said.c.place == 1).group_by(said.c.tenant)

        def work(session: Session) -> dict[str, Ratings]:
            return {tenant: Ratings(up, total - up) for tenant, up, total in session.execute(sums)}

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
