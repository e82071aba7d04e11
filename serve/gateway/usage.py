"""Counts what each key uses, and writes the sums to the store every few seconds instead of at each request."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import UTC, datetime

from serve.store import Store, UsageRecord

FLUSH_SECONDS = 5.0

logger = logging.getLogger(__name__)


class UsageLedger:
    """Sums in memory; at most ``FLUSH_SECONDS`` of them are lost if the process is killed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sums: dict[tuple[str, str, datetime], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._task = asyncio.create_task(self._keep_flushing())

    def add(self, key_id: str, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count one answer."""
        sums = self._sums[key_id, model, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)]
        sums[0] += 1
        sums[1] += prompt_tokens
        sums[2] += completion_tokens

    async def close(self) -> None:
        """Write what is left."""
        self._task.cancel()
        await self._flush()

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self._flush()
            except Exception:
                # The sums stay in memory; the next round tries again.
                logger.exception("usage could not be written")

    async def _flush(self) -> None:
        pending, self._sums = self._sums, defaultdict(lambda: [0, 0, 0])
        if not pending:
            return
        records = [
            UsageRecord(key, model, hour, prompt_tokens=prompt, completion_tokens=completion, requests=requests)
            for (key, model, hour), (requests, prompt, completion) in pending.items()
        ]
        try:
            await self._store.usage.add(records)
        except BaseException:
            for place, sums in pending.items():
                self._sums[place] = [a + b for a, b in zip(self._sums[place], sums, strict=True)]
            raise
