"""API keys: made, found by their secret, listed, revoked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from serve.errors import InvalidRequest, NotFound
from serve.store.database import Database
from serve.store.records import Key, NewKey, Scope, require_aware, utc_now
from serve.store.tables import KeyRow

MAX_NAME = 200
MAX_LIMIT = 2**31 - 1
_SECRET_BYTES = 32
_PREFIX = 8


class Keys:
    """The keys of a gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        name: str,
        scopes: Iterable[str],
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        """Make a key. Its secret is in the answer and nowhere else.

        Args:
            name: for people; need not be unique.
            scopes: one or more of ``Scope``.
            requests_per_minute: limit; none means no limit.
            tokens_per_minute: limit; none means no limit.
            expires_at: from when on it is not valid; none means never.

        Raises:
            InvalidRequest: no name, an unknown scope or none, a limit below 1, or a time that is past.
        """
        now = utc_now()
        secret = "gq-" + secrets.token_urlsafe(_SECRET_BYTES)
        row = KeyRow(
            id="key_" + secrets.token_hex(12),
            name=_checked_name(name),
            prefix=secret[:_PREFIX],
            hash=_hash(secret),
            scopes=_checked_scopes(scopes),
            requests_per_minute=_checked_limit(requests_per_minute, "requests_per_minute"),
            tokens_per_minute=_checked_limit(tokens_per_minute, "tokens_per_minute"),
            created_at=now,
            expires_at=_checked_expiry(expires_at, now),
        )
        key = _from_row(row)
        await self._database.write(lambda session: session.add(row))
        return NewKey(key=key, secret=secret)

    async def find(self, secret: str) -> Key | None:
        """The key of ``secret``; none where there is none, or it is revoked or expired."""
        digest = _hash(secret)

        def work(session: Session) -> Key | None:
            row = session.scalar(select(KeyRow).where(KeyRow.hash == digest))
            key = None if row is None else _from_row(row)
            return key if key is not None and key.valid(utc_now()) else None

        return await self._database.read(work)

    async def list(self) -> tuple[Key, ...]:
        """Every key ever made, revoked and expired ones too, oldest first."""
        query = select(KeyRow).order_by(KeyRow.created_at, KeyRow.id)
        return await self._database.read(lambda session: tuple(map(_from_row, session.scalars(query))))

    async def revoke(self, id: str) -> Key:
        """Make a key invalid for good; one that is revoked already keeps its first time.

        Raises:
            NotFound: there is no such key.
        """

        def work(session: Session) -> Key:
            row = session.scalar(select(KeyRow).where(KeyRow.id == id).with_for_update())
            if row is None:
                raise NotFound(f"There is no API key {id!r}.", param="id")
            row.revoked_at = row.revoked_at or utc_now()
            session.flush()
            return _from_row(row)

        return await self._database.write(work)

    async def count(self) -> int:
        """How many keys are valid now."""
        query = select(func.count()).select_from(KeyRow).where(valid_at(utc_now()))
        return await self._database.read(lambda session: session.scalars(query).one())


def _hash(secret: str) -> str:
    # A plain, fast hash is right here: slow ones protect passwords that can be guessed, and 256 random bits
    # cannot. It also lets a key be found by an index, at every request. A surrogate in what a client sent is
    # hashed as it is, and matches nothing.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def valid_at(now: datetime) -> ColumnElement[bool]:
    """``Key.valid`` in SQL."""
    return KeyRow.revoked_at.is_(None) & or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now)


def _checked_name(name: str) -> str:
    if not 1 <= len(name.strip()) <= MAX_NAME:
        raise InvalidRequest(f"A key's name has from 1 to {MAX_NAME} characters.", param="name")
    return name.strip()


def _checked_scopes(scopes: Iterable[str]) -> list[str]:
    asked = sorted(set(scopes))
    known = [scope.value for scope in Scope]
    if not asked or not set(asked) <= set(known):
        raise InvalidRequest(f"scopes are one or more of {', '.join(known)}.", param="scopes")
    return [str(scope) for scope in asked]


def _checked_limit(limit: int | None, param: str) -> int | None:
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"{param} is from 1 to {MAX_LIMIT}, or null for no limit.", param=param)
    return limit


def _checked_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    if expires_at is not None:
        require_aware(expires_at, "expires_at")
        if expires_at <= now:
            raise InvalidRequest("expires_at is past.", param="expires_at")
    return expires_at


def _from_row(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=frozenset(map(Scope, row.scopes)),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
