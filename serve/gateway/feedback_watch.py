"""Rolls an adapter back that answers for its model and is disliked: by the ratings of stored answers, which only the
gateway sees. A canary that is on probation and has come through it without that is promoted. Every gateway replica
looks; the registry takes each change once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

from serve.adapters.errors import RegistryError
from serve.adapters.promotions import Pin, Promotion, Promotions, Rules, Standing, made_canary
from serve.errors import Unavailable
from serve.store import Ratings, Store
from serve.watch import Watch

LOOK_SECONDS = 5.0

ByTenant = Mapping[str, Ratings]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answering:
    """A content that answers for its model.

    Attributes:
        published: when.
        made_canary: the change that made it the canary; none where it is not.
    """

    model: str
    pin: Pin
    published: datetime
    rules: Rules
    made_canary: Promotion | None

    @property
    def adapter(self) -> str:
        """What its answers are stored under."""
        return f"{self.model}:{self.pin.name}"


class FeedbackWatch(Watch):
    """Looks at the ratings every ``LOOK_SECONDS``."""

    def __init__(self, store: Store, promotions: Promotions) -> None:
        super().__init__()
        self._store = store
        self._promotions = promotions
        self._answered: Counter[tuple[str, str]] = Counter()
        #: What each canary's adapter had answered when it was first seen to be the canary.
        self._before: dict[tuple[str, int], int] = {}

    def note(self, model: str, answered: str) -> None:
        """Note who answered a request for ``model`` itself: its id, or ``id:adapter``. The ``user_config`` may have
        chosen it, of which the registry knows nothing."""
        if answered != model:
            self._answered[model, answered.partition(":")[2]] += 1

    async def look(self) -> None:
        """Roll back what is disliked too much, and promote what has gone through its probation without that."""
        for one in await asyncio.to_thread(self._answering):
            dislike = await self._dislike(one)
            if dislike is not None:
                told = {"model": one.model, "adapter": one.pin.name, "reason": dislike}
                logger.error("an adapter is rolled back", extra=told)
                await asyncio.to_thread(self._promotions.roll_back, one.model, one.pin, by="feedback", reason=dislike)
            elif (merit := await self._merit(one)) is not None:
                assert one.made_canary is not None
                made = await asyncio.to_thread(self._promotions.graduate, one.model, one.made_canary, reason=merit)
                if made is not None:
                    told = {"model": one.model, "adapter": one.pin.name, "reason": merit}
                    logger.info("an adapter is promoted", extra=told)

    async def _dislike(self, one: Answering) -> str | None:
        """Why it has to go; none where it has not."""
        rules = one.rules
        ratings = await self._store.feedback.ratings(one.adapter, one.published)
        if _total(ratings) < rules.min_ratings:
            return None
        own = await self._store.feedback.ratings(one.model)
        if _share(await self._without_one(ratings, one.model, one.published)) <= _bearable(own, rules):
            return None
        return f"{_told(ratings)} rated conversations disliked, {_compared(own, rules.min_ratings)}"

    async def _merit(self, one: Answering) -> str | None:
        """What a canary has gone through that is to be promoted now; none where it is not. Dislike that is too little
        to roll it back, by few or by one tenant alone, is enough to keep it from all."""
        made = one.made_canary
        canary = made.standing.canary if made is not None else None
        if made is None or canary is None or (probation := canary.probation) is None:
            return None
        answered = self._answered[one.model, one.pin.name]
        requests = answered - self._before.setdefault((one.model, made.number), answered)
        hours = (datetime.now(UTC) - made.at).total_seconds() / 3600
        if hours < probation.hours or requests < probation.min_requests:
            return None
        ratings = await self._store.feedback.ratings(one.adapter, made.at)
        if _total(ratings) < probation.min_ratings:
            return None
        if _share(ratings) > _bearable(await self._store.feedback.ratings(one.model), one.rules):
            return None
        return (
            f"{hours:.1f} hours as the canary, {requests} requests at one gateway, {_told(ratings)} rated"
            " conversations disliked"
        )

    async def _without_one(self, ratings: ByTenant, model: str, since: datetime) -> ByTenant:
        """The ratings without those of the tenant that dislikes most, where several use the model: nobody alone takes
        an adapter from the others."""
        used = await self._store.usage.totals(since=since.astimezone(UTC).date())
        if not ratings or len(ratings.keys() | {one.key_id for one in used if one.model == model}) == 1:
            return ratings
        first = max(ratings, key=lambda tenant: ratings[tenant].down_share)
        return {tenant: said for tenant, said in ratings.items() if tenant != first}

    def _answering(self) -> list[Answering]:
        """What answers for a model and was not rolled back; on a thread."""
        registry = self._promotions.registry
        found: list[Answering] = []
        for model in registry.models():
            try:
                history = self._promotions.history(model)
            except RegistryError as failure:
                logger.warning("the promotions cannot be read", extra={"model": model, "reason": str(failure)})
                continue
            standing = history[-1].standing if history else Standing()
            names = {name for noted, name in tuple(self._answered) if noted == model}
            names |= {pin.name for pin in (standing.canary, standing.default) if pin is not None}
            for name in sorted(names):
                try:
                    manifest = registry.manifest(model, name)
                except RegistryError:  # Withdrawn, or broken: it answers nobody.
                    continue
                pin = Pin(name=name, version=manifest.version)
                if pin not in standing.refused:
                    found.append(Answering(model, pin, manifest.created, standing.rules, made_canary(history, pin)))
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


def _bearable(own: ByTenant, rules: Rules) -> float:
    """The part of an adapter's answers that may be disliked: what is of the model's own, and some more."""
    return (_share(own) if _total(own) >= rules.min_ratings else 0.0) + rules.down_excess


def _told(ratings: ByTenant) -> str:
    return f"{sum(one.down for one in ratings.values())} of {_total(ratings)}"


def _compared(own: ByTenant, least: int) -> str:
    """The model's own part, for the record."""
    return "and too few of the model's own to compare" if _total(own) < least else f"{_told(own)} of the model's own"
