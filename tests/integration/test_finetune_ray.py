"""Training runs on a real local Ray, with a tiny model: whole, killed, paused, shared by two workers, from pairs."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from serve.adapters.peft import parse_config, parse_weights
from serve.settings.errors import SettingsError
from tests.finetuning import recipe, tiny_checkpoint, write_chats, write_pairs
from train.checkpoints import Checkpoints
from train.events import last_state, read_events
from train.finetune.data import DataError
from train.finetune.job import Job
from train.finetune.run import run
from train.run_folder import CONTROL, RunFolder

Json = dict[str, Any]

#: Of the undisturbed run: 24 conversations, four a step, 20 times.
STEPS = 120


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chats(tmp_path_factory.mktemp("data") / "chats.jsonl")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Conversations to judge by."""
    return str(write_chats(tmp_path_factory.mktemp("data") / "others.jsonl", 8, first=100))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def undisturbed(base: Path, chats: Path, others: str, runs: Path) -> Job:
    """A run from its beginning to its end; of seconds, so that something can happen meanwhile."""
    long = recipe(
        base,
        chats,
        data={"validation": [others]},
        schedule={"epochs": 20},
        checkpoint={"every": 20},
        tracking={"tensorboard": True},
    )
    job = Job(long, folder(runs, "whole"))
    run(job, progress=False)
    return job


def folder(runs: Path, name: str) -> RunFolder:
    return RunFolder(str(runs), name)


def curve(job: Job) -> dict[int, float]:
    """The loss of each step as it was noted last."""
    return {event.data["step"]: event.data["loss"] for event in read_events(job.folder) if event.type == "metrics"}


def when(job: Job, seen: Callable[[int], bool], act: Callable[[], None]) -> threading.Thread:
    """Act once a step has been noted for which ``seen`` is true."""

    def follow() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if any(event.type == "metrics" and seen(event.data["step"]) for event in read_events(job.folder)):
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def kill_workers() -> None:
    """Kill what trains, as a node that is lost does."""
    for process in psutil.process_iter(["cmdline"]):
        if "RayTrainWorker" in " ".join(process.info["cmdline"] or ()) and is_ours(process):
            os.kill(process.pid, signal.SIGKILL)


def is_ours(process: psutil.Process) -> bool:
    session = ray._private.worker._global_node.get_session_dir_path()
    try:
        return any(session in part for parent in process.parents() for part in parent.cmdline())
    except psutil.Error:
        return False


def test_a_run_leaves_an_adapter_curves_and_a_result(undisturbed: Job) -> None:
    here = Path(undisturbed.folder.address)
    result = json.loads((here / "result.json").read_text(encoding="utf-8"))
    assert result["state"] == "succeeded"
    assert (result["steps"], result["epochs"], result["adapter"]) == (STEPS, 20.0, "adapter")
    assert result["trained_tokens"] > 0
    assert result["peak_memory_bytes"] > 0
    losses = curve(undisturbed)
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1] - 0.5
    config = parse_config((here / "adapter" / "adapter_config.json").read_bytes())
    assert parse_weights((here / "adapter" / "adapter_model.safetensors").read_bytes(), config)
    assert str(here) not in (here / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    made_for = json.loads((here / "adapter" / "groupqwen.json").read_text(encoding="utf-8"))
    assert made_for["base"]["model"] == "tiny"
    assert len(made_for["training_data"]) == len(made_for["base"]["chat_template_sha256"]) == 64
    assert (here / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((here / "tensorboard").glob("events.out.tfevents.*"))
    assert not (here / "ray").exists()


def test_its_checkpoints_are_whole_and_judged(undisturbed: Job) -> None:
    checkpoints = Checkpoints(undisturbed.folder)
    found = [checkpoints.verify(step) for step in checkpoints.steps()]
    assert found[-1].step == STEPS
    assert len(found) <= 3
    assert all(one.eval_loss is not None for one in found)
    assert {
        "adapter_model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    } <= set(found[-1].files)


def test_its_events_tell_the_states_in_order(undisturbed: Job) -> None:
    events = read_events(undisturbed.folder)
    assert [event.data["state"] for event in events if event.type == "state"] == ["starting", "running", "succeeded"]
    assert "number of house" not in "".join(event.message for event in events)


def test_a_run_that_is_done_is_not_done_again(undisturbed: Job) -> None:
    before = read_events(undisturbed.folder)
    assert run(undisturbed, progress=False)["state"] == "succeeded"
    assert read_events(undisturbed.folder) == before


def test_another_recipe_cannot_go_on_with_it(undisturbed: Job, base: Path, chats: Path) -> None:
    with pytest.raises(SettingsError, match="is the run of another recipe"):
        run(Job(recipe(base, chats, seed=6), undisturbed.folder), progress=False)


def test_workers_that_are_killed_come_back_to_the_same_curve(undisturbed: Job, runs: Path) -> None:
    killed = Job(undisturbed.recipe, folder(runs, "killed"))
    when_killed = random.randrange(25, STEPS // 2)
    thread = when(killed, lambda step: step >= when_killed, kill_workers)
    result = run(killed, progress=False)
    thread.join()
    states = [event.data["state"] for event in read_events(killed.folder) if event.type == "state"]
    assert states == ["starting", "running", "starting", "running", "succeeded"], f"killed at step {when_killed}"
    assert result["steps"] == STEPS
    assert curve(killed) == pytest.approx(curve(undisturbed), rel=1e-4)


def test_a_paused_run_goes_on_to_the_same_curve(undisturbed: Job, runs: Path) -> None:
    paused = Job(undisturbed.recipe, folder(runs, "paused"))
    thread = when(paused, lambda step: step >= 25, lambda: paused.folder.write_json(CONTROL, {"wanted": "pause"}))
    assert run(paused, progress=False)["state"] == "paused"
    thread.join()
    assert last_state(read_events(paused.folder)) == "paused"
    assert run(paused, progress=False)["state"] == "succeeded"
    assert curve(paused) == pytest.approx(curve(undisturbed), rel=1e-4)
    assert not Path(paused.folder.address, CONTROL).exists()


def test_two_workers_share_a_run_of_packed_rows(base: Path, chats: Path, runs: Path) -> None:
    shared = Job(recipe(base, chats, workers=2, packing=True, max_length=128), folder(runs, "shared"))
    result = run(shared, progress=False)
    assert result["state"] == "succeeded"
    losses = curve(shared)
    assert losses[max(losses)] < losses[1]
    checkpoints = Checkpoints(shared.folder)
    manifest = checkpoints.verify(checkpoints.steps()[-1])
    assert manifest.workers == 2
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest.files)


def test_pairs_make_the_better_answer_likelier(base: Path, runs: Path, tmp_path: Path) -> None:
    pairs = Job(recipe(base, write_pairs(tmp_path / "pairs.jsonl"), objective="dpo"), folder(runs, "pairs"))
    result = run(pairs, progress=False)
    losses = curve(pairs)
    # Where nothing is known, the loss is log 2.
    assert losses[1] == pytest.approx(0.693, abs=0.01)
    assert result["train_loss"] < 0.5
    told = [event.message for event in read_events(pairs.folder) if event.level == "warning"]
    assert any("without Unsloth" in line for line in told)


def test_all_weights_can_be_trained_and_stop_early(base: Path, chats: Path, others: str, runs: Path) -> None:
    full = Job(
        recipe(
            base,
            chats,
            method="full",
            engine="peft",
            data={"validation": [others]},
            # It cannot get better than this by less than a thousand.
            schedule={"epochs": 4, "early_stop": {"patience": 1, "min_delta": 1000.0}},
        ),
        folder(runs, "full"),
    )
    result = run(full, progress=False)
    assert (result["stopped_early"], result["model"], result["steps"]) == (True, "model", 6)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(full.folder.names("model"))


def test_data_that_is_at_fault_ends_the_run_in_its_events(base: Path, runs: Path, tmp_path: Path) -> None:
    failed = Job(recipe(base, tmp_path / "nothing.jsonl"), folder(runs, "failed"))
    with pytest.raises(DataError, match="there is no file"):
        run(failed, progress=False)
    last = read_events(failed.folder)[-1]
    assert (last.data["state"], last.data["error"]["code"]) == ("failed", "DataError")
