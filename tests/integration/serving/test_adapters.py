"""Adapters on a real group: by a config, by the registry, on every replica, new ones too, with no restart."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.settings.model import ModelSettings
from tests.group import Group, Json, gateway, model_application
from tests.load import Load
from tests.peft import SURE, random_adapter

MODEL = "smollm2-135m"
ASKED = {"prompt": "The capital of France is", "max_tokens": 5}


def smollm2(settings: ModelSettings, *, name: str = MODEL, replicas: int = 1, **user_config: Any) -> Json:
    """SmolLM2's application, small, as the model ``name``."""
    assert settings.weights is not None
    weights = settings.weights.model_dump(exclude_none=True)
    engine = {"context": 256, "slots": 4, "threads": 1}
    return model_application(
        {"id": name, "handler": "llamacpp", "weights": weights, "engine": engine},
        num_replicas=replicas,
        max_queued_requests=64,
        user_config={"sampling": {"temperature": 0}, **user_config},
    )


def registry(group: Group, *arguments: str) -> str:
    """Run a command of the registry as an operator does; gives what it tells."""
    done = subprocess.run(
        [sys.executable, "-m", "serve.adapters", *arguments],
        env=group.folder.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(group: Group, name: str, folder: Path, *, model: str = MODEL) -> None:
    registry(group, "publish", model, name, str(folder), "--config", str(group.config))


async def ask(group: Group, model: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        return await client.post("/v1/completions", json={"model": model, **ASKED})


async def said(group: Group, model: str) -> str:
    answer = await ask(group, model)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answer.headers["x-groupqwen-model"] == model
    return str(answer.json()["choices"][0]["text"])


async def until(done: Any, what: str) -> None:
    """Ask again and again until ``done()`` holds."""
    async with asyncio.timeout(30):
        while not await done():
            await asyncio.sleep(0.1)


@pytest.fixture(autouse=True)
def empty_registry(group: Group) -> None:
    """Nothing is published when a test begins."""
    shutil.rmtree(group.folder.path.parent / "adapters", ignore_errors=True)


@pytest.mark.timeout(240)
async def test_a_deployed_config_with_an_adapter_makes_it_answer_and_restarts_nothing(
    group: Group, smollm2_settings: ModelSettings, tmp_path: Path
) -> None:
    await asyncio.to_thread(group.deploy, gateway(), smollm2(smollm2_settings))
    replicas, base = group.replicas(MODEL), await said(group, MODEL)
    assert (await ask(group, f"{MODEL}:own")).status_code == 404
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "adapter_config.json").write_text("garbage", encoding="utf-8")
    adapters = [
        {"name": "bad", "path": str(bad)},
        {"name": "own", "path": str(random_adapter(tmp_path / "own"))},
    ]
    async with Load(group.url, MODEL, 2) as load:
        await asyncio.to_thread(group.deploy, gateway(), smollm2(smollm2_settings, adapters=adapters))
        changed = await said(group, f"{MODEL}:own")
    assert changed != base == await said(group, MODEL)
    assert [one for one in load.finished if not one.whole] == []
    refused = await ask(group, f"{MODEL}:bad")
    assert (refused.status_code, refused.json()["error"]["code"]) == (424, "adapter_refused")
    listed = {one["id"] for one in group.client.get("/v1/models").json()["data"]}
    assert {f"{MODEL}:own"} == {one for one in listed if ":" in one}
    await asyncio.to_thread(group.deploy, gateway(), smollm2(smollm2_settings))
    assert (await ask(group, f"{MODEL}:own")).status_code == 404
    assert group.replicas(MODEL) == replicas


@pytest.mark.timeout(300)
async def test_what_is_published_is_on_every_replica_on_new_ones_too_and_what_is_withdrawn_on_none(
    group: Group, smollm2_settings: ModelSettings, tmp_path: Path
) -> None:
    two = smollm2(smollm2_settings, replicas=2)
    await asyncio.to_thread(group.deploy, gateway(timeouts={"replica_wait": 60}), two)
    name = f"{MODEL}:tuned"
    await asyncio.to_thread(publish, group, "tuned", random_adapter(tmp_path / "1", seed=SURE[0]))
    first = await said(group, name)
    assert await asyncio.gather(*(said(group, name) for _ in range(12))) == [first] * 12

    # A new content under the same name.
    await asyncio.to_thread(publish, group, "tuned", random_adapter(tmp_path / "2", seed=SURE[1]))

    async def all_changed() -> bool:
        return first not in await asyncio.gather(*(said(group, name) for _ in range(8)))

    await until(all_changed, "the new content")
    second = await said(group, name)

    # A replica that is killed comes back with it, and no request is told that there is none.
    replicas = group.replicas(MODEL)
    os.kill(next(iter(replicas.values())), signal.SIGKILL)
    assert set(await asyncio.gather(*(said(group, name) for _ in range(8)))) == {second}
    await asyncio.to_thread(
        group.until, lambda: len(group.replicas(MODEL)) == 2 and group.replicas(MODEL) != replicas, "two again"
    )
    assert set(await asyncio.gather(*(said(group, name) for _ in range(12)))) == {second}

    await asyncio.to_thread(registry, group, "withdraw", MODEL, "tuned")

    async def none_left() -> bool:
        return {one.status_code for one in await asyncio.gather(*(ask(group, name) for _ in range(8)))} == {404}

    await until(none_left, "the withdrawal")
    assert await said(group, MODEL)
