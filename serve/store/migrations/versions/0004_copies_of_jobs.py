"""How much of the disk the copies take that fine-tuning jobs keep of their files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Count from now on; what jobs keep already counts for nothing."""
    column = sa.Column("copied_bytes", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("fine_tuning_jobs", column)


def downgrade() -> None:
    """Count no more; the copies stay."""
    op.drop_column("fine_tuning_jobs", "copied_bytes")
