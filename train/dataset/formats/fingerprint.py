"""One hash for a data set: of what is in it, whatever the order, and of the settings that made it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

_MODULUS = 1 << 256


class Fingerprint:
    """Adds up the hashes of the pieces, so that order does not matter and two equal pieces count twice.

    Fit to tell data sets apart, not to hold against somebody who makes one on purpose.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    def add(self, piece: bytes) -> None:
        """Take in a piece, such as the line of a row."""
        self._sum += int.from_bytes(hashlib.sha256(piece).digest(), "big")
        self._count += 1

    def merge(self, other: Fingerprint) -> None:
        """Take in all pieces of ``other``, as processes that share the work need."""
        self._sum += other._sum
        self._count += other._count

    def value(self, settings: Mapping[str, Any]) -> str:
        """64 hexadecimal digits for the pieces so far and these settings (as JSON knows them)."""
        said = [f"{self._sum % _MODULUS:064x}", self._count, dict(settings)]
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
