"""Fine-tuning jobs, what happened to them, and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"

# Written out and not imported: a migration stays as it was when the code's types change.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "fine_tuning_jobs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("adapter", TEXT, nullable=False),
        sa.Column("run", TEXT, nullable=False),
        sa.Column("training_file", TEXT, nullable=False),
        sa.Column("validation_file", TEXT, nullable=True),
        sa.Column("suffix", TEXT, nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.JSON(), nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("idempotency_key", TEXT, nullable=True),
        sa.Column("queued_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("fine_tuned_model", TEXT, nullable=True),
        sa.Column("trained_tokens", sa.BigInteger(), nullable=True),
        sa.Column("plan", sa.JSON(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("wanted", TEXT, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("submitted", sa.Boolean(), nullable=False),
        sa.Column("indexed", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fine_tuning_jobs"),
        sa.UniqueConstraint("tenant", "idempotency_key", name="uq_fine_tuning_jobs_tenant_idempotency_key"),
    )
    op.create_index("ix_fine_tuning_jobs_tenant_created_at_id", "fine_tuning_jobs", ["tenant", "created_at", "id"])
    op.create_index("ix_fine_tuning_jobs_status_created_at_id", "fine_tuning_jobs", ["status", "created_at", "id"])
    op.create_table(
        "fine_tuning_metadata",
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_fine_tuning_metadata"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["fine_tuning_jobs.id"], name="fk_fine_tuning_metadata_job_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_fine_tuning_metadata_key_value", "fine_tuning_metadata", ["key", "value"])
    op.create_table(
        "fine_tuning_events",
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("level", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_fine_tuning_events"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["fine_tuning_jobs.id"], name="fk_fine_tuning_events_job_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "leases",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def downgrade() -> None:
    """Drop the tables; the runs stay in their folders, and what runs goes on without being followed."""
    op.drop_table("leases")
    op.drop_table("fine_tuning_events")
    op.drop_table("fine_tuning_metadata")
    op.drop_table("fine_tuning_jobs")
