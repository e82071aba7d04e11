"""Rolls an adapter back that answers for its model and is disliked: by the ratings of stored answers, which only the
gateway sees. Every gateway replica looks; the registry takes a rollback once."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from serve.adapters.errors import RegistryError
from serve.adapters.promotions import Pin, Promotions, Standing
from serve.errors import Unavailable
from serve.store import Ratings, Store

LOOK_SECONDS = 5.0

logger = logging.getLogger(__name__)


class FeedbackWatch:
    """Looks at the ratings every ``LOOK_SECONDS``."""

    def __init__(self, store: Store, promotions: Promotions) -> None:
        self._store = store
        self._promotions = promotions
        self._answered: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def alive(self) -> bool:
        """Whether it still looks."""
        return self._task is not None and not self._task.done()

    def note(self, model: str, answered: str) -> None:
        """Note who answered a request for ``model`` itself: its id, or ``id:adapter``. The ``user_config`` may have
        chosen it, of which the registry knows nothing."""
        if answered != model:
            self._answered.add((model, answered.partition(":")[2]))

    async def look(self) -> None:
        """Roll back what is disliked too much."""
        found = await asyncio.to_thread(self._answering)
        for model, pin, since, standing in found:
            rules = standing.rules
            ratings = await self._store.feedback.ratings(f"{model}:{pin.name}", since)
            if ratings.total < rules.min_ratings:
                continue
            own = await self._store.feedback.ratings(model)
            usual = own.down_share if own.total >= rules.min_ratings else 0.0
            if ratings.down_share > usual + rules.down_excess:
                reason = f"{ratings.down} of {ratings.total} rated answers disliked, {_share(own, rules.min_ratings)}"
                logger.error(
                    "an adapter is rolled back", extra={"model": model, "adapter": pin.name, "reason": reason}
                )
                await asyncio.to_thread(self._promotions.roll_back, model, pin, by="feedback", reason=reason)

    def _answering(self) -> list[tuple[str, Pin, datetime, Standing]]:
        """What answers for a model, since when it is published, and what stands; on a thread."""
        registry = self._promotions.registry
        found: list[tuple[str, Pin, datetime, Standing]] = []
        for model in registry.models():
            try:
                standing = self._promotions.standing(model)
            except RegistryError as failure:
                logger.warning("the promotions cannot be read", extra={"model": model, "reason": str(failure)})
                continue
            names = {name for noted, name in self._answered if noted == model}
            names |= {pin.name for pin in (standing.canary, standing.default) if pin is not None}
            for name in sorted(names):
                try:
                    manifest = registry.manifest(model, name)
                except RegistryError:  # Withdrawn, or broken: it answers nobody.
                    continue
                pin = Pin(name=name, version=manifest.version)
                if pin not in standing.refused:
                    found.append((model, pin, manifest.created, standing))
        return found

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except (RegistryError, Unavailable) as failure:
                logger.warning("the feedback on adapters cannot be seen", extra={"reason": str(failure)})
            except Exception:
                logger.exception("the feedback on adapters could not be looked at")
            await asyncio.sleep(LOOK_SECONDS)


def _share(own: Ratings, least: int) -> str:
    """The model's own share, for the record."""
    if own.total < least:
        return "and too few of the model's own to compare"
    return f"{own.down} of {own.total} of the model's own"
