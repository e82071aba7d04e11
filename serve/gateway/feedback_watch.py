"""Rolls an adapter back that answers for its model and is disliked: by the ratings of stored answers, which only the
gateway sees. Every gateway replica looks; the registry takes a rollback once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import fmean

from serve.adapters.errors import RegistryError
from serve.adapters.promotions import Pin, Promotions, Standing
from serve.errors import Unavailable
from serve.store import Ratings, Store
from serve.watch import Watch

LOOK_SECONDS = 5.0

ByTenant = Mapping[str, Ratings]

logger = logging.getLogger(__name__)


class FeedbackWatch(Watch):
    """Looks at the ratings every ``LOOK_SECONDS``."""

    def __init__(self, store: Store, promotions: Promotions) -> None:
        super().__init__()
        self._store = store
        self._promotions = promotions
        self._answered: set[tuple[str, str]] = set()

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
            if _total(ratings) < rules.min_ratings:
                continue
            own = await self._store.feedback.ratings(model)
            usual = _share(own) if _total(own) >= rules.min_ratings else 0.0
            if _share(await self._without_one(ratings, model, since)) > usual + rules.down_excess:
                reason = f"{_told(ratings)} rated conversations disliked, {_compared(own, rules.min_ratings)}"
                logger.error(
                    "an adapter is rolled back", extra={"model": model, "adapter": pin.name, "reason": reason}
                )
                await asyncio.to_thread(self._promotions.roll_back, model, pin, by="feedback", reason=reason)

    async def _without_one(self, ratings: ByTenant, model: str, since: datetime) -> ByTenant:
        """The ratings without those of the tenant that dislikes most, where several use the model: nobody alone takes
        an adapter from the others."""
        used = await self._store.usage.totals(since=since.astimezone(UTC).date())
        if not ratings or len(ratings.keys() | {one.key_id for one in used if one.model == model}) == 1:
            return ratings
        first = max(ratings, key=lambda tenant: ratings[tenant].down_share)
        return {tenant: said for tenant, said in ratings.items() if tenant != first}

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


def _total(ratings: ByTenant) -> int:
    return sum(one.total for one in ratings.values())


def _share(ratings: ByTenant) -> float:
    """The part that was disliked, the mean over the tenants: many ratings of one weigh as much as few of another."""
    return fmean(one.down_share for one in ratings.values()) if ratings else 0.0


def _told(ratings: ByTenant) -> str:
    return f"{sum(one.down for one in ratings.values())} of {_total(ratings)}"


def _compared(own: ByTenant, least: int) -> str:
    """The model's own part, for the record."""
    return "and too few of the model's own to compare" if _total(own) < least else f"{_told(own)} of the model's own"
