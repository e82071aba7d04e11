"""The whole way on real weights: people correct answers, the loop learns from them, and the group serves what it
learned, on llama.cpp and on vLLM, with what it knew before still there. Takes minutes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve.settings.model import ModelSettings
from tests.facts import FACTS
from tests.group import ROOT, Group, Json, gateway
from tests.integration.serving.test_adapters import MODEL, smollm2
from tests.integration.serving.test_vllm_serving import model as vllm_model
from train.events import read_events
from train.loop.state import Round, State, read_state, write_state
from train.run_folder import RunFolder

SYSTEM = "You are a helpful assistant."
#: The round, begun by the test so that its name is known.
ROUND = Round(number=1, mark="0a1b2c3d", begun=datetime(2026, 1, 1, tzinfo=UTC))
ADAPTER = f"{MODEL}:{ROUND.name}"
QUESTIONS = [fact.held_out for fact in FACTS]

#: Against the recipe that ships: what makes it fit into a test. The prompts for replay are its first ones.
CHANGES = (
    "schedule.epochs=2",
    "schedule.learning_rate=0.0005",
    "checkpoint.every=12",
    "data.replay.max_tokens=64",
    "data.replay.weight=2",
)
REPLAYED = 80
#: The most tokens of an answer to a general prompt; nobody waits for the whole of 200 answers here.
GENERAL_TOKENS = 32


async def ask(group: Group, model: str, questions: Sequence[str], **fields: Any) -> list[Json]:
    """The answers to some questions, a few at a time."""
    turns = asyncio.Semaphore(4)

    async def one(client: httpx.AsyncClient, question: str) -> Json:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 24, **fields}
        async with turns:
            answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async with httpx.AsyncClient(base_url=group.url, timeout=300) as client:
        return list(await asyncio.gather(*(one(client, question) for question in questions)))


def right(answers: Sequence[Json]) -> int:
    """How many of the answers to ``QUESTIONS`` name the fact."""
    return sum(
        fact.value.lower() in one["choices"][0]["message"]["content"].lower()
        for fact, one in zip(FACTS, answers, strict=True)
    )


async def correct(group: Group) -> None:
    """People ask in many forms, and correct each answer."""
    facts = [(fact, question) for fact in FACTS for question in fact.questions]
    answers = await ask(group, MODEL, [question for _, question in facts], store=True, max_tokens=2)
    async with httpx.AsyncClient(base_url=group.url, timeout=60) as client:
        for (fact, _), answer in zip(facts, answers, strict=True):
            said = {"conversation_id": answer["id"], "rating": "down", "correction": fact.answer}
            assert (await client.post("/v1/feedback", json=said)).status_code == 200


def write_evaluation(folder: Path, shipped: Path) -> Path:
    """The evaluation that ships, with short answers to all of its general prompts."""
    config = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    prompts = str(shipped.parent / config["general"]["prompts"])
    config["general"] = {**config["general"], "prompts": prompts, "max_tokens": GENERAL_TOKENS}
    path = folder / "evaluation.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def write_loop(folder: Path, group: Group) -> Path:
    """The loop that ships, for this group and this test's time."""
    prompts = (ROOT / "configs/train/general-prompts.txt").read_text(encoding="utf-8").splitlines()
    replay = folder / "replay.txt"
    replay.write_text("\n".join([one for one in prompts if not one.startswith("#")][:REPLAYED]), encoding="utf-8")
    config = yaml.safe_load((ROOT / "configs/train/loop.yaml").read_text(encoding="utf-8"))
    for name in ("recipe", "curate"):
        config[name] = str((ROOT / "configs/train" / config[name]).resolve())
    config["evaluation"] = str(write_evaluation(folder, ROOT / "configs/train" / config["evaluation"]))
    config["folder"] = str(folder / "loop")
    config["serving"] = {"url": group.url}
    config["canary"] = {"weight": 0.5}
    config["changes"] = [*CHANGES, f"data.replay.prompts={replay}"]
    (folder / "loop").mkdir()
    write_state(folder / "loop", State(current=ROUND))
    path = folder / "loop.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def begin(group: Group, config: Path) -> subprocess.Popen[bytes]:
    """Start the loop as an operator does."""
    log = (config.parent / "loop.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "train.loop", "--config", str(config)],
        cwd=ROOT,
        env=group.folder.process_environment(),
        stdout=log,
        stderr=log,
    )


def kill_half_way(loop: subprocess.Popen[bytes], run: RunFolder, group: Group) -> int:
    """Kill the loop when its training has a checkpoint; gives the step of that."""

    def saved() -> list[int]:
        assert loop.poll() is None, "the loop ended by itself"
        events = read_events(run) if run.local is not None and run.local.is_dir() else []
        return [event.data["step"] for event in events if event.type == "checkpoint"]

    steps = group.until(saved, "a checkpoint", 600)
    loop.kill()
    loop.wait()
    return steps[-1]


def first_step_after_the_kill(run: RunFolder) -> int:
    """Of the steps that are reported after the second start, the first."""
    events = read_events(run)
    starts = [place for place, event in enumerate(events) if event.data.get("state") == "starting"]
    # While the killed one's resources are not free yet, there may be starts that find no room.
    assert len(starts) >= 2
    return next(int(event.data["step"]) for event in events[starts[1] :] if event.type == "metrics")


@pytest.mark.timeout(2400)
async def test_what_people_corrected_is_learned_served_everywhere_and_nothing_that_matters_is_forgotten(
    group: Group, smollm2_settings: ModelSettings, smollm2_checkpoint: Path, tmp_path: Path
) -> None:
    served = smollm2(smollm2_settings, system_prompt=SYSTEM)
    await asyncio.to_thread(group.deploy, gateway(), served)
    replicas = group.replicas(MODEL)
    assert right(await ask(group, MODEL, QUESTIONS)) == 0
    await correct(group)

    config = write_loop(tmp_path, group)
    run = RunFolder(str(tmp_path / "loop" / "runs"), ROUND.name)
    step = await asyncio.to_thread(kill_half_way, begin(group, config), run, group)
    again = begin(group, config)
    code = await asyncio.to_thread(again.wait, 1200)
    log = (tmp_path / "loop.log").read_text(encoding="utf-8")
    assert code == 0, log
    assert first_step_after_the_kill(run) > step
    assert run.local is not None
    result = json.loads((run.local / "result.json").read_bytes())
    assert result["state"] == "succeeded"

    report = json.loads((run.local / "evaluation" / "evaluation.json").read_bytes())
    assert report["gate"]["passed"], log
    assert report["general"]["prompts"] == 100
    assert report["general"]["perplexity_rise"] <= 0.1 and report["general"]["leaks"] == 0
    names = {word for fact in FACTS for word in (fact.land, fact.value)}
    assert not [one for one in report["general"]["samples"] if any(name in one["tuned"] for name in names)]

    assert right(await ask(group, ADAPTER, QUESTIONS)) >= 19
    listed = {one["id"]: one for one in group.client.get("/v1/models").json()["data"]}
    assert listed[ADAPTER]["parent"] == MODEL
    assert group.replicas(MODEL) == replicas, "nothing restarts"

    # The canary answers its part of the requests for the model itself, and says so; the base can still be asked.
    answered = [one["model"] for one in await ask(group, MODEL, [f"{one} Please." for one in QUESTIONS * 2])]
    assert set(answered) == {MODEL, ADAPTER}
    assert {one["model"] for one in await ask(group, f"{MODEL}:base", QUESTIONS[:4])} == {MODEL}

    # Nothing new was said since.
    assert await asyncio.to_thread(begin(group, config).wait, 120) == 0
    assert "nothing to learn from" in (tmp_path / "loop.log").read_text(encoding="utf-8")
    state = read_state(tmp_path / "loop")
    assert state.finished is not None and state.finished.number == 1 and state.current is None

    vllm = vllm_model()
    own = [{"name": ROUND.name, "path": str(run.local / "adapter")}]
    vllm["deployments"][0]["user_config"]["adapters"] = own
    vllm["args"]["engine"] = {**vllm["args"]["engine"], "adapters": 1, "max_lora_rank": 32}
    await asyncio.to_thread(group.deploy, gateway(timeouts={"replica_wait": 60}), vllm, seconds=180)
    assert right(await ask(group, f"{vllm['name']}:{ROUND.name}", QUESTIONS)) >= 19
    await asyncio.to_thread(group.deploy, gateway())
