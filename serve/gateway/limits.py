"""Requests and tokens a minute, for each key."""

from __future__ import annotations

import time
from dataclasses import dataclass

from serve.errors import RateLimited


@dataclass(slots=True)
class Bucket:
    """A token bucket that holds one minute's allowance.

    Attributes:
        per_minute: the allowance.
        level: what is left of it; below zero after an answer that was longer than what was left.
        filled_at: when ``level`` was true, in seconds of ``time.monotonic``.
    """

    per_minute: int
    level: float
    filled_at: float

    def refill(self, now: float) -> None:
        """Add what the time since the last look has earned."""
        self.level = min(self.per_minute, self.level + (now - self.filled_at) * self.per_minute / 60)
        self.filled_at = now

    def seconds_until(self, wanted: float) -> float:
        """How long until the level is ``wanted``."""
        return max(0.0, (wanted - self.level) * 60 / self.per_minute)


class RateLimits:
    """The buckets of one gateway replica; each replica counts on its own, so two let up to twice as much through."""

    def __init__(self) -> None:
        self._requests: dict[str, Bucket] = {}
        self._tokens: dict[str, Bucket] = {}

    def take_request(self, key_id: str, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        """Count one request of a key.

        Raises:
            RateLimited: one of its limits is used up; says when to try again.
        """
        now = time.monotonic()
        if tokens_per_minute is not None:
            bucket = self._bucket(self._tokens, key_id, tokens_per_minute, now)
            if bucket.level < 1:
                raise RateLimited(
                    f"This key's limit of {tokens_per_minute} tokens a minute is used up.",
                    code="tokens_per_minute",
                    retry_after=bucket.seconds_until(1),
                )
        if requests_per_minute is not None:
            bucket = self._bucket(self._requests, key_id, requests_per_minute, now)
            if bucket.level < 1:
                raise RateLimited(
                    f"This key's limit of {requests_per_minute} requests a minute is used up.",
                    code="requests_per_minute",
                    retry_after=bucket.seconds_until(1),
                )
            bucket.level -= 1

    def add_tokens(self, key_id: str, tokens: int) -> None:
        """Count the tokens of an answer, once they are known."""
        bucket = self._tokens.get(key_id)
        if bucket is not None:
            bucket.level -= tokens

    def _bucket(self, buckets: dict[str, Bucket], key_id: str, per_minute: int, now: float) -> Bucket:
        bucket = buckets.get(key_id)
        if bucket is None or bucket.per_minute != per_minute:
            bucket = buckets[key_id] = Bucket(per_minute, per_minute, now)
        bucket.refill(now)
        return bucket
