"""Who answers for the model itself: by weight, the same for the same user, and without the one that fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve.adapters.promotions import Promotions
from serve.errors import GroupQwenError, InternalError, InvalidRequest, ModelLost, Unavailable
from serve.protocol.events import Delta
from serve.protocol.requests import ChatRequest
from serve.protocol.validation import parse_request
from serve.replica import adapters as adapters_module
from serve.replica import variants as module
from serve.replica.variants import Variants
from serve.settings.model import ModelUserConfig
from tests.unit.replica.adapters import Kept, Taking, kept
from tests.unit.replica.models import CHAT, HELLO, client, replica

REASON = "for a test"


class Served:
    """A replica whose variants look all the time."""

    def __init__(self, adapters: Kept) -> None:
        self.adapters = adapters
        self.promotions = Promotions(adapters.registry)
        self.variants = Variants("m", self.promotions, adapters.adapters)
        self.app = replica(adapters.handler, adapters.adapters, variants=self.variants)

    async def publish(self, *names: str) -> None:
        for seed, name in enumerate(names):
            self.adapters.publish(name, seed)
        await self.adapters.until(lambda: set(self.adapters.states().values()) == {"ready"})

    def configure(self, **fields: Any) -> None:
        behaviour = ModelUserConfig.model_validate(fields)
        self.adapters.adapters.configure(behaviour)
        self.variants.configure(behaviour)

    async def ask(self, **fields: Any) -> httpx.Response:
        async with client(self.app.asgi) as asking:
            return await asking.post(CHAT, json={**HELLO, **fields})

    async def who(self, **fields: Any) -> str:
        answer = await self.ask(**fields)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-groupqwen-model"] == answer.json()["model"]
        return str(answer.json()["model"])

    async def until(self, who: str, **fields: Any) -> None:
        async with asyncio.timeout(10):
            while await self.who(**fields) != who:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(folder: Path, handler: Taking | None = None) -> AsyncIterator[Served]:
    async with kept(folder, handler) as adapters:
        found = Served(adapters)
        found.variants.start()
        try:
            yield found
        finally:
            await found.variants.close()


@pytest_asyncio.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(adapters_module, "POLL_SECONDS", 0.02)
    async with serving(tmp_path) as found:
        yield found


async def test_a_promoted_adapter_answers_for_the_model_and_its_name_says_so(served: Served) -> None:
    await served.publish("a")
    assert await served.who() == "m"
    served.promotions.promote("m", "a", by="operator", reason=REASON)
    await served.until("m:a")
    assert await served.who(model="m:base") == "m"
    assert served.adapters.handler.asked[-1][0].adapter is None
    streamed = await served.ask(stream=True)
    assert streamed.headers["x-groupqwen-model"] == "m:a" and '"model":"m:a"' in streamed.text
    served.promotions.roll_back("m", by="operator", reason=REASON)
    await served.until("m")


async def test_a_canary_answers_its_part_and_the_same_user_always_gets_the_same(served: Served) -> None:
    await served.publish("a")
    served.configure(canary={"adapter": "a", "weight": 0.3})
    users = [f"user-{number}" for number in range(400)]
    first = {user: await served.who(user=user) for user in users}
    assert 80 < Counter(first.values())["m:a"] < 160
    assert first == {user: await served.who(user=user, messages=[{"role": "user", "content": "x"}]) for user in users}
    served.configure(canary={"adapter": "a", "weight": 0.6})
    later = {user: await served.who(user=user) for user in users}
    assert all(later[user] == "m:a" for user in users if first[user] == "m:a")


async def test_a_conversation_stays_with_who_began_it(served: Served) -> None:
    await served.publish("a")
    served.configure(canary={"adapter": "a", "weight": 0.5})
    answered = set()
    for number in range(40):
        messages = [{"role": "user", "content": f"Question {number} 🙂"}]
        who = await served.who(messages=messages)
        answered.add(who)
        for turn in range(3):
            messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": f"And {turn}?"}]
            assert await served.who(messages=messages) == who
    assert answered == {"m", "m:a"}


async def test_the_config_goes_before_the_registry_and_the_canary_before_the_default(served: Served) -> None:
    await served.publish("a", "b", "c")
    served.promotions.promote("m", "a", by="operator", reason=REASON)
    await served.until("m:a")
    served.configure(default_adapter="b")
    assert await served.who() == "m:b"
    served.configure(default_adapter="b", canary={"adapter": "c", "weight": 1})
    assert await served.who() == "m:c"
    served.configure(canary={"adapter": "c", "weight": 0})
    assert await served.who() == "m:a"
    served.configure(adapter_registry=False)
    assert await served.who() == "m"


async def test_an_adapter_that_is_not_there_leaves_its_requests_to_the_model(served: Served) -> None:
    served.configure(default_adapter="nowhere")
    assert await served.who() == "m"


async def test_a_new_content_under_a_promoted_name_has_to_earn_its_place(served: Served) -> None:
    await served.publish("a")
    served.promotions.promote("m", "a", by="operator", reason=REASON)
    await served.until("m:a")
    served.adapters.publish("a", 7)
    await served.until("m")
    assert await served.who(model="m:a") == "m:a"


class FailsOn(Taking):
    """Fails, after a first piece or at once, for what runs on an adapter."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self._failing = steps

    def chat(self, request: Any, sampling: Any) -> Any:
        self.steps = self._failing if request.adapter else self.steps_without
        return super().chat(request, sampling)

    steps_without = Taking().steps


@pytest.mark.parametrize("begun", [False, True])
async def test_a_canary_that_fails_too_often_is_rolled_back_and_others_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    steps = ((Delta(text="x"),),) if begun else ()
    async with serving(tmp_path, FailsOn(*steps, InternalError("it is broken"))) as served:
        await served.publish("a")
        served.promotions.canary("m", "a", 1, by="operator", reason=REASON)
        async with asyncio.timeout(10):
            while not served.variants.any:
                await asyncio.sleep(0.01)
        for _ in range(40):
            await served.ask(stream=True)
        assert await served.who() == "m"
        async with asyncio.timeout(10):
            while served.promotions.standing("m").canary is not None:
                await asyncio.sleep(0.01)
        last = served.promotions.history("m")[-1]
        assert (last.action, last.by) == ("rollback", "errors") and "failed" in last.reason
        assert await served.who() == "m"


@pytest.mark.parametrize(
    "error", [InvalidRequest("no"), ModelLost("m"), Unavailable("The model 'm' has stopped.")], ids=repr
)
async def test_what_a_client_does_wrong_and_an_engine_that_dies_roll_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: GroupQwenError
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    async with serving(tmp_path, FailsOn(error)) as served:
        await served.publish("a")
        served.configure(default_adapter="a")
        for _ in range(60):
            assert (await served.ask()).status_code == error.status
        assert served.promotions.history("m") == []
        assert served.variants.choose(parse_request(ChatRequest, HELLO)) is not None
