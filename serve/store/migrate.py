"""Migrations run from code, one process at a time however many start at once, each run all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import URL, Connection

from serve.store import engine as engines

MIGRATIONS = Path(__file__).parent / "migrations"

# "GroupQwe" as a big-endian integer: no other user of the database's server takes the same lock by chance.
ADVISORY_LOCK = int.from_bytes(b"GroupQwe", "big")

# Alembic keeps the migration under way in module variables.
_one_in_this_process = threading.Lock()


def upgrade(url: URL, revision: str = "head") -> None:
    """Bring the database's schema to ``revision``; makes the database where it is a SQLite file."""
    with _exclusive(url) as connection, connection.begin():
        command.upgrade(_config(connection), revision)
        _check_foreign_keys(connection)


def downgrade(url: URL, revision: str) -> None:
    """Take the database's schema back to ``revision``; ``base`` means no tables, and loses what they hold."""
    with _exclusive(url) as connection, connection.begin():
        command.downgrade(_config(connection), revision)
        _check_foreign_keys(connection)


def current(url: URL) -> str | None:
    """The revision of the database's schema; none before the first migration."""
    with _exclusive(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def draft(url: URL, message: str) -> None:
    """Write a migration from the database's schema to the tables in the code; Alembic prints where.

    Raises:
        alembic.util.CommandError: the database is not at the newest migration.
    """
    with _exclusive(url) as connection:
        config = _config(connection)
        number = len(list(ScriptDirectory.from_config(config).walk_revisions())) + 1
        command.revision(config, message, autogenerate=True, rev_id=f"{number:04}")


@contextmanager
def _exclusive(url: URL) -> Iterator[Connection]:
    """A connection while no other process migrates; a process that dies gives its lock back at once."""
    file = engines.sqlite_file(url)
    with _one_in_this_process:
        if file is None:
            with _connect(url) as connection:
                connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
                connection.commit()
                # The connection's end ends the lock.
                yield connection
            return
        # Stored prompts are private: a folder that is made here is its owner's alone.
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"), _connect(url) as connection:
            yield connection


@contextmanager
def _connect(url: URL) -> Iterator[Connection]:
    # SQLite changes a table by building it anew; with foreign keys on, dropping the old one would delete what
    # refers to it.
    engine = engines.create(url, connections=1, foreign_keys=False)
    try:
        with engine.execution_options(**{engines.WRITES: True}).connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _check_foreign_keys(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise RuntimeError(f"a migration left {len(broken)} rows that refer to nothing; nothing was changed")


def _config(connection: Connection) -> Config:
    config = Config()
    # Alembic's configuration interpolates %.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
