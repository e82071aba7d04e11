"""Inserts that may meet a row which is there already: each database has its own, and they are written alike."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

#: Name of a database -> its insert, with ``on_conflict_do_update``.
INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
