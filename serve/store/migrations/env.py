"""What Alembic runs for every command; ``serve.store.migrate`` gives it the connection."""

from __future__ import annotations

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from serve.store.tables import Base, Text, UtcDateTime


def render(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Write the code's own types into a draft as what they are, since a migration must outlive them."""
    if kind == "type" and isinstance(item, Text):
        return 'sa.Text().with_variant(sa.Text(collation="C"), "postgresql")'
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_item=render,
    # SQLite alters a table by building it anew.
    render_as_batch=connection.dialect.name == "sqlite",
    # True of SQLite too, as ``serve.store.engine`` begins its transactions.
    transactional_ddl=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
