"""Which rows were written: on disk, so that memory does not grow with them."""

from __future__ import annotations

import sqlite3
from enum import Enum
from types import TracebackType
from typing import Self

from train.dataset.rows import Row, content_digest


class Verdict(Enum):
    """What to do with a row."""

    NEW = "new"
    DUPLICATE = "duplicate"
    NEWER = "newer"


class RowIndex:
    """The ids of the rows that were written, each with its line. A context manager.

    A conversation that comes again is kept once. Where it changed in between, and its source says when, the version
    that changed last is kept: the earlier line is then superseded.
    """

    def __init__(self) -> None:
        # An empty name is a database in a temporary file that goes with the connection.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")
        self._database.execute(
            "CREATE TABLE rows (id TEXT PRIMARY KEY, digest TEXT, changed REAL, line INT) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE superseded (line INTEGER PRIMARY KEY)")

    def add(self, row: Row, line: int) -> Verdict:
        """Say what to do with ``row``, which is to be line ``line`` if it is written."""
        digest = content_digest(row.messages, row.tools or (), row.rejected or ())
        changed = row.last_changed.timestamp() if row.last_changed else None
        known = self._database.execute("SELECT digest, changed, line FROM rows WHERE id = ?", (row.id,)).fetchone()
        if known is None:
            self._database.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (row.id, digest, changed, line))
            return Verdict.NEW
        if digest == known[0] or changed is None or (known[1] is not None and changed <= known[1]):
            return Verdict.DUPLICATE
        self._database.execute("INSERT INTO superseded VALUES (?)", (known[2],))
        update = "UPDATE rows SET digest = ?, changed = ?, line = ? WHERE id = ?"
        self._database.execute(update, (digest, changed, line, row.id))
        return Verdict.NEWER

    def superseded(self, line: int) -> bool:
        """Whether a later line took the place of this one."""
        found = self._database.execute("SELECT 1 FROM superseded WHERE line = ?", (line,)).fetchone()
        return found is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
