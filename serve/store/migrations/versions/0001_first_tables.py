"""Conversations with their metadata and feedback, API keys, usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None

# Written out and not imported: a migration stays as it was when the code's types change.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table."""
    _make_conversations()
    _make_feedback()
    _make_keys()
    _make_usage()


def _make_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("usage", sa.JSON(), nullable=True),
        sa.Column("route", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.create_index("ix_conversations_tenant_created_at_id", "conversations", ["tenant", "created_at", "id"])
    op.create_table(
        "conversation_metadata",
        sa.Column("conversation_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_conversation_metadata_conversation_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("conversation_id", "key", name="pk_conversation_metadata"),
    )
    op.create_index("ix_conversation_metadata_key_value", "conversation_metadata", ["key", "value"])


def _make_feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("conversation_id", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("choice_index", sa.Integer(), nullable=False),
        sa.Column("rating", TEXT, nullable=True),
        sa.Column("correction", TEXT, nullable=True),
        sa.Column("comment", TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_feedback_conversation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
    )
    op.create_index("ix_feedback_conversation_id_created_at_id", "feedback", ["conversation_id", "created_at", "id"])


def _make_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("tokens_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
    )


def _make_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "model", "day", name="pk_usage"),
    )


def downgrade() -> None:
    """Drop every table, and what they hold."""
    for table in ("usage", "api_keys", "feedback", "conversation_metadata", "conversations"):
        op.drop_table(table)
