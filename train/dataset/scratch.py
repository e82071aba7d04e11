"""A database for one run: on disk, so that memory does not grow with the input, and gone with its user."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self


class Scratch:
    """A context manager that closes its database.

    Args:
        tables: the statements that make them.
    """

    def __init__(self, *tables: str) -> None:
        # An empty name is a database in a temporary file that goes with the connection.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")
        for statement in tables:
            self._database.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
