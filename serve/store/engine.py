"""Engines: a database's URL to SQLAlchemy's connections, with each database's own settings."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 10
CONNECT_SECONDS = 10

# Of a transaction: whether it will write. See ``_begin``.
WRITES = "groupqwen_writes"

_EXAMPLES = "use sqlite:///FOLDER/FILE.db or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def parse(url: str) -> URL:
    """Parse a database's URL.

    Raises:
        ValueError: not a URL, or not of a database that the store can use. The message never shows the URL,
            which may hold a password.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(f"the database URL is not valid; {_EXAMPLES}") from None
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ValueError(f"the database URL begins with {parsed.drivername!r}; {_EXAMPLES}")
    # A database in memory belongs to one connection, and the store has several.
    in_memory = parsed.database in (None, "", ":memory:") or "uri" in parsed.query
    if parsed.drivername == "sqlite" and in_memory:
        raise ValueError(f"SQLite needs the path of a file; {_EXAMPLES}")
    return parsed


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; none for another database."""
    return Path(url.database or "") if url.drivername == "sqlite" else None


def create(url: URL, *, connections: int, foreign_keys: bool = True) -> Engine:
    """An engine that keeps at most ``connections`` open.

    Args:
        url: from ``parse``.
        connections: most connections at once.
        foreign_keys: whether SQLite enforces foreign keys; migrations switch them off (PostgreSQL always does).
    """
    sqlite = url.drivername == "sqlite"
    engine = sa.create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        # A server's restart kills idle connections; SQLite has no server.
        pool_pre_ping=not sqlite,
        # Statements appear in tracebacks, and parameters are prompts and hashes.
        hide_parameters=True,
        json_serializer=partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        connect_args={"timeout": BUSY_SECONDS} if sqlite else {"connect_timeout": CONNECT_SECONDS},
    )
    if sqlite:
        event.listen(engine, "connect", partial(_prepare, foreign_keys=foreign_keys))
        event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry, *, foreign_keys: bool) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # Python's module would begin transactions late and none for DDL; ``_begin`` does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once, without waiting, when another one wrote in
    # between; one that takes the write lock at its beginning waits for its turn.
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES) else "BEGIN")
