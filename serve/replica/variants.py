"""Which adapter answers a request for the model itself: the promoted one, the canary, or none.

What stands in the registry (``serve.adapters.promotions``) is looked at every ``POLL_SECONDS``; the ``user_config``
goes before it. An adapter that is not there, or not as it was promoted, leaves its requests to the next: none of them
fails for want of an adapter. One that fails too often is rolled back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import aclosing

from serve.adapters.errors import RegistryError
from serve.adapters.promotions import WINDOW, Pin, Promotions, Rules, Standing
from serve.errors import Unavailable
from serve.handlers.base import EventStream
from serve.protocol.http import as_error
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.replica.adapters import POLL_SECONDS, Adapters
from serve.settings.model import ModelUserConfig
from serve.watch import Watch

logger = logging.getLogger(__name__)


class Variants(Watch):
    """Chooses for each request, and watches how it ends.

    Args:
        model: its id.
        adapters: what this replica has.
    """

    def __init__(self, model: str, promotions: Promotions, adapters: Adapters) -> None:
        super().__init__()
        self._model = model
        self._promotions = promotions
        self._adapters = adapters
        self._behaviour = ModelUserConfig()
        self._standing = Standing()
        self._ended: dict[Pin | None, deque[bool]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._fault = ""
        self._rolling: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop looking; a rollback that is under way is finished."""
        await super().close()
        if self._rolling:
            await asyncio.wait(self._rolling)

    def configure(self, behaviour: ModelUserConfig) -> None:
        """Take a new ``user_config``, at once."""
        self._behaviour = behaviour

    def choose(self, asked: ChatRequest | CompletionRequest) -> Pin | None:
        """The adapter that answers ``asked``, which names none; none for the model itself.

        The same end user, else the same conversation, always gets the same, as long as what stands does not change;
        a canary of more weight keeps those that it had.
        """
        for name, version, weight in self._offers():
            found = self._adapters.version_of(name)
            if found is None or version not in (None, found):
                continue
            pin = Pin(name=name, version=found)
            if pin not in self._standing.refused and (weight >= 1 or _share(name, asked) < weight):
                return pin
        return None

    @property
    def any(self) -> bool:
        """Whether some adapter is to answer requests that name none."""
        return next(self._offers(), None) is not None

    def _offers(self) -> Iterator[tuple[str, str | None, float]]:
        """Name, version (none for any) and weight of the canary, then of the default."""
        canary, default = self._behaviour.canary, self._behaviour.default_adapter
        if canary is not None:
            yield canary.adapter, None, canary.weight
        elif self._behaviour.adapter_registry and (one := self._standing.canary) is not None:
            yield one.name, one.version, one.weight
        if default is not None:
            yield default, None, 1.0
        elif self._behaviour.adapter_registry and (pin := self._standing.default) is not None:
            yield pin.name, pin.version, 1.0

    async def watched(self, events: EventStream, chosen: Pin | None) -> EventStream:
        """``events`` as they are; how they end counts for the one that answers.

        ``Unavailable`` does not: an engine that dies or stops ends all its requests at once, whichever adapter they
        run on.
        """
        try:
            async with aclosing(events):
                async for ready in events:
                    yield ready
        except Exception as raised:
            error = as_error(raised)
            if error.status >= 500 and not isinstance(error, Unavailable):
                self._ended[chosen].append(True)
                if chosen is not None and self._fails_too_often(chosen, self._standing.rules):
                    self._roll_back(chosen)
            raise
        self._ended[chosen].append(False)

    def _fails_too_often(self, pin: Pin, rules: Rules) -> bool:
        ended, others = self._ended[pin], self._ended[None]
        share = sum(ended) / len(ended)
        without = sum(others) / len(others) if others else 0.0
        return len(ended) >= rules.min_requests and share > max(rules.error_share, without)

    def _roll_back(self, pin: Pin) -> None:
        """Take it out here at once, and in the registry for all replicas."""
        ended = self._ended.pop(pin)
        reason = f"{sum(ended)} of its last {len(ended)} requests on a replica failed"
        logger.error("an adapter is rolled back", extra={"model": self._model, "adapter": pin.name, "reason": reason})
        refused = [*self._standing.refused, pin]
        self._standing = self._standing.model_copy(update={"refused": refused})
        task = asyncio.create_task(self._record(pin, reason))
        self._rolling.add(task)
        task.add_done_callback(self._rolling.discard)

    async def _record(self, pin: Pin, reason: str) -> None:
        """Write a rollback down; tried until the registry takes it."""
        while True:
            try:
                await asyncio.to_thread(self._promotions.roll_back, self._model, pin, by="errors", reason=reason)
                return
            except RegistryError as failure:
                logger.warning("a rollback cannot be recorded yet", extra={"reason": str(failure)})
                await asyncio.sleep(POLL_SECONDS)

    async def _run(self) -> None:
        """Look, sleep; for ever. What cannot be asked stays as it was."""
        while True:
            if not self._rolling:
                try:
                    self._standing = await asyncio.to_thread(self._promotions.standing, self._model)
                    self._fault = ""
                except RegistryError as failure:
                    if str(failure) != self._fault:
                        logger.warning("the promotions cannot be read", extra={"reason": str(failure)})
                    self._fault = str(failure)
                except Exception:
                    logger.exception("the promotions could not be looked at", extra={"model": self._model})
            await asyncio.sleep(POLL_SECONDS)


def _share(name: str, asked: ChatRequest | CompletionRequest) -> float:
    """Where the one who asks stands between 0 and 1, evenly spread, for the adapter ``name``."""
    digest = hashlib.sha256(f"{name}\0{_who(asked)}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _who(asked: ChatRequest | CompletionRequest) -> str:
    """What stays the same over the requests of one end user; else of one conversation: how it begins."""
    if user := asked.safety_identifier or asked.user or asked.prompt_cache_key:
        return user
    if isinstance(asked, CompletionRequest):
        return asked.text
    first = next((place for place, one in enumerate(asked.messages) if one.role == "user"), 0)
    return "\0".join(one.model_dump_json() for one in asked.messages[: first + 1])
