"""The list of models, and the group's health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serve import __version__
from serve.residency.ledger import Report
from serve.residency.need import PROCESS_BYTES
from tests.unit.gateway.group import Group, asleep, group, running
from tests.unit.replica.models import Scripted, echo


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with two models."""
    async with group(tmp_path, echo("tiny"), Scripted(id="able", context=4096, dimensions=2)) as found:
        yield found


async def get(group: Group, path: str) -> tuple[int, Any]:
    """An answer's status and body."""
    async with group.client() as client:
        answer = await client.get(path)
        return answer.status_code, answer.json()


async def test_models_are_listed_with_the_automatic_one_last(two: Group) -> None:
    status, body = await get(two, "/v1/models")
    assert (status, body["object"]) == (200, "list")
    assert [model["id"] for model in body["data"]] == ["able", "tiny", "auto"]
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in body["data"])


async def test_a_model_is_shown_with_its_state_and_what_it_can_do(two: Group) -> None:
    _, body = await get(two, "/v1/models/able")
    assert {
        name: body[name] for name in ("id", "state", "message", "handler", "replicas", "context", "dimensions")
    } == {
        "id": "able",
        "state": "ready",
        "message": "",
        "handler": "echo",
        "replicas": 1,
        "context": 4096,
        "dimensions": 2,
    }
    assert body["capabilities"]["chat"] is True and body["capabilities"]["vision"] is False


async def test_a_model_that_could_not_be_started_is_shown_with_the_reason(two: Group) -> None:
    failed = running("bad", status="DEPLOY_FAILED", replicas=0)
    await two.refresh(bad=type(failed)("bad", failed.status, "no such file", 1.0, 0))
    _, body = await get(two, "/v1/models/bad")
    assert (body["state"], body["message"], body["handler"]) == ("failed", "no such file", None)


async def test_the_automatic_model_can_be_asked_for_and_another_name_cannot(two: Group) -> None:
    assert (await get(two, "/v1/models/auto"))[1]["id"] == "auto"
    status, body = await get(two, "/v1/models/none")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


async def test_a_group_without_models_lists_none(tmp_path: Path) -> None:
    async with group(tmp_path) as found:
        assert (await get(found, "/v1/models"))[1] == {"object": "list", "data": []}


async def test_the_process_lives_whatever_else_is_wrong(two: Group) -> None:
    await two.members.close()
    assert await get(two, "/livez") == (200, {"status": "alive"})


async def test_a_group_is_ready_when_every_model_is(two: Group) -> None:
    assert await get(two, "/readyz") == (200, {"status": "ready", "waiting_for": [], "store": True})
    await two.refresh(tiny=running("tiny", status="DEPLOYING", replicas=0))
    assert await get(two, "/readyz") == (503, {"status": "not ready", "waiting_for": ["tiny"], "store": True})


async def test_a_group_without_models_is_not_ready(tmp_path: Path) -> None:
    async with group(tmp_path) as found:
        assert (await get(found, "/readyz"))[0] == 503
        assert (await get(found, "/v1/health"))[0] == 503


async def test_a_group_is_healthy_while_one_model_answers(two: Group) -> None:
    await two.refresh(tiny=running("tiny", status="UNHEALTHY", replicas=0))
    assert await get(two, "/v1/health") == (
        200,
        {
            "status": "healthy",
            "version": __version__,
            "store": "healthy",
            "models": {
                "able": {"state": "ready", "replicas": 1},
                "tiny": {"state": "unhealthy", "replicas": 0},
            },
            "tasks": {},
        },
    )
    await two.refresh(able=running("able", status="UNHEALTHY", replicas=0))
    assert (await get(two, "/v1/health"))[0] == 503


async def test_a_list_that_is_no_longer_kept_fresh_is_not_trusted(two: Group) -> None:
    await two.members.close()
    for path in ("/readyz", "/v1/health"):
        async with two.client() as client:
            await client.get("/livez")
            assert (await client.get(path)).status_code == 503


@pytest.mark.parametrize(("path", "told"), [("/readyz", False), ("/v1/health", "unhealthy")])
async def test_a_store_that_does_not_answer_is_told(two: Group, path: str, told: object, tmp_path: Path) -> None:
    (tmp_path / "store.db").unlink()
    (tmp_path / "store.db").mkdir()
    status, body = await get(two, path)
    assert (status, body["store"]) == (503, told)


async def test_a_model_is_shown_with_what_its_replicas_hold_and_what_one_needs(two: Group) -> None:
    two.sleep.reports[:] = [Report("able", "loaded", 5, resident=300), Report("able", "resting", 5, resident=100)]
    await two.refresh(able=running("able", replicas=2, residency="on_demand"))
    _, body = await get(two, "/v1/models/able")
    assert (body["memory_bytes"], body["memory_estimate_bytes"]) == (400, PROCESS_BYTES)
    assert (body["state"], body["residency"]) == ("ready", "on_demand")


async def test_a_model_that_sleeps_holds_nothing(two: Group) -> None:
    await two.refresh(able=asleep("able"))
    _, body = await get(two, "/v1/models/able")
    assert (body["state"], body["replicas"], body["memory_bytes"]) == ("asleep", 0, 0)
    assert body["context"] == 4096


async def test_a_group_whose_models_sleep_or_rest_or_wake_is_ready_and_healthy(two: Group) -> None:
    two.sleep.reports[:] = [Report("able", "resting", 5)]
    await two.refresh(tiny=asleep("tiny"))
    assert (await get(two, "/readyz"))[0] == 200
    _, body = await get(two, "/v1/health")
    assert {name: one["state"] for name, one in body["models"].items()} == {"able": "resting", "tiny": "asleep"}
    await two.refresh(tiny=running("tiny", replicas=0, wanted=1, may_sleep=True))
    assert (await get(two, "/readyz"))[0] == 200
