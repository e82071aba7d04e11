"""Promotion on a real group: an adapter answers for its model on every replica, and is taken back if disliked."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from serve.settings.model import ModelSettings
from tests.group import ROOT, Group, gateway
from tests.integration.serving.test_adapters import publish, smollm2, until
from tests.peft import random_adapter

#: Of these tests alone: what others rated of a model and who used it decide what is disliked.
MODEL = "smollm2-promoted"
TUNED = f"{MODEL}:tuned"


def promotions(group: Group, *arguments: str) -> str:
    """Run a command as an operator does; gives what it tells."""
    done = subprocess.run(
        [sys.executable, "-m", "train.adapters", *arguments],
        cwd=ROOT,
        env=group.folder.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def who(group: Group, *, store: bool = False) -> list[httpx.Response]:
    """Eight users ask for the model itself."""
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        asked = [{"role": "user", "content": "Hello"}]
        bodies = [
            {"model": MODEL, "messages": asked, "max_tokens": 3, "user": f"user-{number}", "store": store}
            for number in range(8)
        ]
        return list(await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies)))


def names(answers: list[httpx.Response]) -> set[str]:
    assert {one.status_code for one in answers} == {200}
    assert all(one.json()["model"] == one.headers["x-groupqwen-model"] for one in answers)
    return {one.json()["model"] for one in answers}


@pytest.mark.timeout(400)
async def test_a_promoted_adapter_soon_answers_everywhere_and_is_taken_back_when_it_is_disliked(
    group: Group, smollm2_settings: ModelSettings, tmp_path: Path
) -> None:
    shutil.rmtree(group.folder.path.parent / "adapters", ignore_errors=True)
    await asyncio.to_thread(group.deploy, gateway(), smollm2(smollm2_settings, name=MODEL, replicas=2))
    replicas = group.replicas(MODEL)
    await asyncio.to_thread(publish, group, "tuned", random_adapter(tmp_path / "tuned"), model=MODEL)
    assert names(await who(group)) == {MODEL}
    reason = ("--reason", "for a test", "--min-ratings", "8")
    await asyncio.to_thread(promotions, group, "promote", MODEL, "tuned", *reason)
    begun = time.monotonic()

    async def all_by(name: str) -> bool:
        return names(await who(group)) == {name}

    await until(lambda: all_by(TUNED), "the adapter answers")
    # 2 s for a replica to look, and the requests themselves on a busy machine.
    assert time.monotonic() - begun < 15
    answers = await who(group, store=True)
    assert names(answers) == {TUNED}
    for one in answers:
        said = {"conversation_id": one.json()["id"], "rating": "down"}
        assert (await asyncio.to_thread(group.client.post, "/v1/feedback", json=said)).status_code == 200
    await until(lambda: all_by(MODEL), "the model itself answers again")
    history = await asyncio.to_thread(promotions, group, "history", MODEL)
    assert "\tfeedback\t8 of 8 rated conversations disliked" in history
    assert group.replicas(MODEL) == replicas
