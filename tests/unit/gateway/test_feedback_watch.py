"""An adapter that answers for its model is rolled back when people dislike it more than the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

from serve.adapters.files import version_in
from serve.adapters.manifest import Base
from serve.adapters.promotions import Pin, Promotions, Rules
from serve.adapters.registry import Registry
from serve.gateway.feedback_watch import FeedbackWatch
from serve.store import Conversation, Feedback, Store, UsageRecord
from tests.peft import save, tensors
from tests.unit.gateway.group import CHAT, group, opened
from tests.unit.replica.adapters import Taking, kept
from tests.unit.replica.models import HELLO, replica
from tests.unit.replica.test_variants import Served

RULES = Rules(min_ratings=4, down_excess=0.2)


class Watched:
    """A store, a registry with one adapter, and who watches both."""

    def __init__(self, store: Store, folder: Path, *, passed: bool = False) -> None:
        self.store = store
        registry = Registry(folder / "registry")
        self.promotions = Promotions(registry)
        self.watch = FeedbackWatch(store, self.promotions)
        source = save(folder / "source", tensors({"model.layers.0.self_attn.q_proj": (8, 8)}))
        evaluation = {"version": version_in(source), "gate": {"passed": True}} if passed else {}
        manifest = registry.publish(Base(model="m"), "a", source, evaluation=evaluation)
        self.pin = Pin(name="a", version=manifest.version)
        self._number = 0

    async def rate(
        self,
        model: str,
        ups: int,
        downs: int,
        at: datetime | None = None,
        *,
        tenant: str = "local",
        asked: str = "m",
        ratings: int = 1,
    ) -> None:
        """Store answers of a model, each rated as often as wanted."""
        at = at or datetime.now(UTC)
        for rating in ["up"] * ups + ["down"] * downs:
            self._number += 1
            id = f"chatcmpl-{self._number}"
            choices = [{"index": index, "message": {}} for index in range(ratings)]
            await self.store.conversations.add(Conversation(id, tenant, at, model, {"model": asked}, choices))
            for index in range(ratings):
                said = Feedback(f"fb-{id}-{index}", id, tenant, at, index, rating=rating)  # type: ignore[arg-type]
                await self.store.feedback.add(said)

    async def rolled_back(self) -> bool:
        await self.watch.look()
        return self.pin in self.promotions.standing("m").refused


@pytest_asyncio.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    store = await opened(tmp_path)
    found = Watched(store, tmp_path)
    found.promotions.canary("m", "a", 0.5, by="operator", reason="for a test", rules=RULES)
    yield found
    await store.close()


async def test_a_canary_that_is_disliked_more_than_the_model_is_rolled_back(watched: Watched) -> None:
    await watched.rate("m", 8, 2)
    await watched.rate("m:a", 2, 3)
    assert await watched.rolled_back()
    last = watched.promotions.history("m")[-1]
    assert (last.action, last.by) == ("rollback", "feedback")
    assert last.reason == "3 of 5 rated conversations disliked, 2 of 10 of the model's own"
    await watched.watch.look()
    assert len(watched.promotions.history("m")) == 2


async def test_a_model_that_is_disliked_as_much_keeps_its_canary(watched: Watched) -> None:
    await watched.rate("m", 4, 6)
    await watched.rate("m:a", 2, 3)
    assert not await watched.rolled_back()


async def test_too_few_ratings_say_nothing(watched: Watched) -> None:
    await watched.rate("m:a", 0, 3)
    assert not await watched.rolled_back()


async def test_ratings_from_before_the_content_was_published_do_not_count(watched: Watched) -> None:
    await watched.rate("m:a", 0, 10, datetime.now(UTC) - timedelta(hours=1))
    assert not await watched.rolled_back()


async def test_a_promoted_adapter_is_watched_too(watched: Watched) -> None:
    watched.promotions.promote("m", "a", by="operator", reason="for a test")
    await watched.rate("m:a", 0, 4)
    assert await watched.rolled_back()
    assert watched.promotions.standing("m").default is None


async def test_each_conversation_counts_once(watched: Watched) -> None:
    await watched.rate("m:a", 0, 2, ratings=5)
    assert not await watched.rolled_back()


async def test_answers_that_were_asked_for_by_name_do_not_count(watched: Watched) -> None:
    await watched.rate("m:a", 0, 10, asked="m:a")
    assert not await watched.rolled_back()


async def test_one_tenant_alone_takes_nothing_from_the_others(watched: Watched) -> None:
    await watched.rate("m:a", 0, 100, tenant="key-1")
    await watched.rate("m:a", 1, 0, tenant="key-2")
    assert not await watched.rolled_back()
    await watched.rate("m:a", 0, 1, tenant="key-2")
    assert await watched.rolled_back()


async def test_others_that_rate_nothing_are_known_by_their_use(watched: Watched) -> None:
    await watched.rate("m:a", 0, 10, tenant="key-1")
    await watched.store.usage.add([UsageRecord(key, "m", datetime.now(UTC), 1, 1) for key in ("key-1", "key-2")])
    assert not await watched.rolled_back()


async def test_a_tenant_that_is_alone_rolls_back(watched: Watched) -> None:
    used = [("key-1", "m"), ("key-2", "another")]
    await watched.store.usage.add([UsageRecord(key, model, datetime.now(UTC), 1, 1) for key, model in used])
    await watched.rate("m:a", 0, 10, tenant="key-1")
    assert await watched.rolled_back()


async def test_one_that_only_a_config_names_is_watched_once_it_has_answered(tmp_path: Path) -> None:
    handler = Taking()
    async with kept(tmp_path / "m", handler) as adapters, group(tmp_path, handler) as found:
        served = Served(adapters)
        await served.publish("a")
        served.configure(default_adapter="a")
        found.transport.apps["m"] = replica(handler, adapters.adapters, variants=served.variants).asgi
        found.inference._feedback_watch = watch = FeedbackWatch(found.store, served.promotions)
        async with found.client() as client:
            for _ in range(10):
                answer = await client.post(CHAT, json={**HELLO, "store": True})
                assert answer.headers["x-groupqwen-model"] == answer.json()["model"] == "m:a"
                said = {"conversation_id": answer.json()["id"], "rating": "down"}
                assert (await client.post("/v1/feedback", json=said)).status_code == 200
        await watch.look()
        assert [pin.name for pin in served.promotions.standing("m").refused] == ["a"]
