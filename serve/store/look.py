"""A look at a database from outside: does it answer, is it migrated, are there keys; makes and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.store import engine as engines
from serve.store.keys import valid_at
from serve.store.migrate import MIGRATIONS
from serve.store.records import utc_now
from serve.store.tables import KeyRow


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        revision: of its schema; none where there are no tables yet.
        newest: the revision that this version of the program wants.
        known: whether ``revision`` is one that this version knows.
        keys: API keys that are valid now; 0 where the schema is not the newest.
    """

    revision: str | None
    newest: str
    known: bool
    keys: int


def look(url: str) -> Look:
    """Look at the database.

    Raises:
        ValueError: the URL is not one of a database that the store can use.
        sqlalchemy.exc.DBAPIError: it does not answer, or is no database.
    """
    parsed = engines.parse(url)
    scripts = ScriptDirectory(str(MIGRATIONS))
    newest = scripts.get_current_head() or ""
    file = engines.sqlite_file(parsed)
    if file is not None and not file.exists():
        return Look(None, newest, True, 0)
    engine = engines.create(parsed, connections=1)
    try:
        with Session(engine) as session:
            revision = MigrationContext.configure(session.connection()).get_current_revision()
            known = revision is None or revision in {one.revision for one in scripts.walk_revisions()}
            keys = 0
            if revision == newest:
                keys = session.scalars(select(func.count()).select_from(KeyRow).where(valid_at(utc_now()))).one()
            return Look(revision, newest, known, keys)
    finally:
        engine.dispose()
