"""Which rows were written: on disk, so that memory does not grow with them."""

from __future__ import annotations

from enum import Enum

from train.dataset.rows import Row, content_digest
from train.dataset.scratch import Scratch


class Verdict(Enum):
    """What to do with a row."""

    NEW = "new"
    DUPLICATE = "duplicate"
    NEWER = "newer"


class RowIndex(Scratch):
    """The ids of the rows that were written, each with its line. A context manager.

    A conversation that comes again is kept once. Where it changed in between, and its source says when, the version
    that changed last is kept: the earlier line is then superseded.
    """

    def __init__(self) -> None:
        super().__init__(
            "CREATE TABLE rows (id TEXT PRIMARY KEY, digest TEXT, changed REAL, line INT) WITHOUT ROWID",
            "CREATE TABLE superseded (line INTEGER PRIMARY KEY)",
        )

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
