"""The tables, and the column types that read and write alike on SQLite and PostgreSQL.

A change here needs a migration: ``python -m serve.store revision MESSAGE --url URL`` drafts it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import Dialect, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator, TypeEngine

from serve.store.values import clean_text


class Text(TypeDecorator[str]):
    """Text of any length, cleaned on its way in, as a value and in comparisons.

    PostgreSQL compares it by code point (collation C), as SQLite does: pages of equal times come in the same
    order on both, and an upgrade of the operating system's locales cannot break an index.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """The database's own type."""
        return sa.Text(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Clean the text, since PostgreSQL fails the whole statement over a NUL."""
        return None if value is None else clean_text(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time to the microsecond: kept in UTC, read in UTC. SQLite has no time zones and gets it bare."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time its zone back; PostgreSQL answers in the session's."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Every table of the project."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    # JSON and not JSONB: a request is kept as the client sent it, and JSONB would reorder the keys of a tool's
    # schema, which chat templates print in order, and turn 1e5 into 100000. Nothing searches inside.
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        datetime: UtcDateTime(),
        dict[str, Any]: sa.JSON(none_as_null=True),
        list[Any]: sa.JSON(none_as_null=True),
    }


class ConversationRow(Base):
    """A stored conversation."""

    __tablename__ = "conversations"
    __table_args__ = (Index(None, "tenant", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    created_at: Mapped[datetime]
    model: Mapped[str]
    request: Mapped[dict[str, Any]]
    choices: Mapped[list[Any]]
    usage: Mapped[dict[str, Any] | None]
    route: Mapped[str | None]
    pairs: Mapped[list[MetadataRow]] = relationship(
        order_by="MetadataRow.key", lazy="selectin", cascade="all, delete-orphan", passive_deletes=True
    )


class MetadataRow(Base):
    """One pair of a conversation's metadata; a table of its own, so that both databases filter by an index."""

    __tablename__ = "conversation_metadata"
    __table_args__ = (Index(None, "key", "value"),)

    conversation_id: Mapped[str] = mapped_column(ForeignKey(ConversationRow.id, ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class FeedbackRow(Base):
    """Feedback on one choice of a conversation; the tenant is the conversation's."""

    __tablename__ = "feedback"
    __table_args__ = (Index(None, "conversation_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey(ConversationRow.id, ondelete="CASCADE"))
    tenant: Mapped[str]
    created_at: Mapped[datetime]
    choice_index: Mapped[int]
    rating: Mapped[str | None]
    correction: Mapped[str | None]
    comment: Mapped[str | None]


class KeyRow(Base):
    """An API key; its secret is kept only as a hash."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class UsageRow(Base):
    """What one key used of one model on one UTC day. No foreign key: local use without a key counts too."""

    __tablename__ = "usage"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(sa.BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    completion_tokens: Mapped[int] = mapped_column(sa.BigInteger)


class FileRow(Base):
    """An uploaded file; its content is in the folder of files, under its id."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "tenant", "created_at", "id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str]
    validation: Mapped[dict[str, Any] | None]


class FineTuningJobRow(Base):
    """A fine-tuning job; what it does stands in its run's folder."""

    __tablename__ = "fine_tuning_jobs"
    __table_args__ = (
        Index(None, "tenant", "created_at", "id"),
        Index(None, "status", "created_at", "id"),
        UniqueConstraint("tenant", "idempotency_key"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    created_at: Mapped[datetime]
    status: Mapped[str]
    model: Mapped[str]
    adapter: Mapped[str]
    run: Mapped[str]
    training_file: Mapped[str]
    validation_file: Mapped[str | None]
    suffix: Mapped[str | None]
    seed: Mapped[int] = mapped_column(sa.BigInteger)
    method: Mapped[dict[str, Any]]
    fingerprint: Mapped[str]
    idempotency_key: Mapped[str | None]
    queued_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]
    fine_tuned_model: Mapped[str | None]
    trained_tokens: Mapped[int | None] = mapped_column(sa.BigInteger)
    plan: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any]]
    wanted: Mapped[str | None]
    attempt: Mapped[int]
    restarts: Mapped[int]
    submitted: Mapped[bool]
    indexed: Mapped[int] = mapped_column(sa.BigInteger)
    revision: Mapped[int]
    copied_bytes: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    pairs: Mapped[list[FineTuningMetadataRow]] = relationship(
        order_by="FineTuningMetadataRow.key", lazy="selectin", cascade="all, delete-orphan", passive_deletes=True
    )


class FineTuningMetadataRow(Base):
    """One pair of a job's metadata, as ``MetadataRow`` is of a conversation's."""

    __tablename__ = "fine_tuning_metadata"
    __table_args__ = (Index(None, "key", "value"),)

    job_id: Mapped[str] = mapped_column(ForeignKey(FineTuningJobRow.id, ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class FineTuningEventRow(Base):
    """What happened to a fine-tuning job, in the order in which it became known."""

    __tablename__ = "fine_tuning_events"

    job_id: Mapped[str] = mapped_column(ForeignKey(FineTuningJobRow.id, ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    level: Mapped[str]
    kind: Mapped[str]
    message: Mapped[str]
    step: Mapped[int | None] = mapped_column(sa.BigInteger)
    data: Mapped[dict[str, Any]]


class LeaseRow(Base):
    """Who does for a while what only one process may do at a time."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[datetime]
