"""Transactions of one tenant that must not run at the same time."""

from __future__ import annotations

import hashlib

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def lock_tenant(session: Session, what: str, tenant: str) -> None:
    """Let no other transaction count ``what`` of the tenant until this one ends: two must not take the last place.

    SQLite has one writer at a time anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_number(f"{what} of {tenant}"))))


def _number(name: str) -> int:
    """The number of an advisory lock: 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
