"""A run that is killed, paused, or goes on by another engine: to the curve that it would have had."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch

from tests.finetuning import STEPS, curve, folder, recipe
from train.checkpoints import Checkpoints, path_of
from train.checkpoints.manifest import record
from train.events import last_state, read_events
from train.finetune.job import Job
from train.finetune.run import run
from train.run_folder import CONTROL
from train.worker.tunable import load_tunable

Json = dict[str, Any]


@pytest.fixture
def chance() -> random.Random:
    """Chance of its own each time; where a test fails, pytest shows the seed."""
    seed = int(os.environ.get("GROUPQWEN_TEST_SEED") or random.SystemRandom().randrange(2**32))
    sys.stdout.write(f"again the same: GROUPQWEN_TEST_SEED={seed}\n")
    return random.Random(seed)


@pytest.mark.parametrize("name", ["undisturbed", "undisturbed_by_two"])
def test_a_run_whose_worker_is_killed_comes_back_to_the_same_curve(
    name: str, request: pytest.FixtureRequest, runs: Path, chance: random.Random
) -> None:
    undisturbed: Job = request.getfixturevalue(name)
    killed = Job(undisturbed.recipe, folder(runs, f"killed-{undisturbed.recipe.workers}"))
    when_killed = chance.randrange(25, STEPS // 2)
    thread = when(killed, lambda step: step >= when_killed, lambda: kill_a_worker(chance))
    result = run(killed, progress=False)
    thread.join()
    states = [event.data["state"] for event in read_events(killed.folder) if event.type == "state"]
    assert states == ["starting", "running", "starting", "running", "succeeded"], f"killed at step {when_killed}"
    assert result["steps"] == STEPS
    assert curve(killed) == pytest.approx(curve(undisturbed), rel=1e-4)
    judged = [Checkpoints(job.folder).get(STEPS).eval_loss for job in (killed, undisturbed)]
    assert judged[0] == pytest.approx(judged[1], rel=1e-4)


def test_a_run_that_went_on_with_other_random_states_would_leave_the_curve(
    undisturbed_by_two: Job, runs: Path
) -> None:
    """Else the equal curves of the others would prove nothing about these states."""
    again = Job(undisturbed_by_two.recipe, folder(runs, "other-states"))
    here = Path(again.folder.address)
    shutil.copytree(undisturbed_by_two.folder.address, here)
    (here / "result.json").unlink()
    again.folder.remove(path_of(STEPS))
    checkpoints = Checkpoints(again.folder)
    last = checkpoints.steps()[-1]
    states = here / path_of(last) / "rng_state_0.pth"
    other = {**torch.load(states, weights_only=False), "cpu": torch.Generator().manual_seed(1).get_state()}
    torch.save(other, states)
    manifest = checkpoints.get(last)
    checkpoints.finish(manifest.model_copy(update={"files": {**manifest.files, states.name: record(states)}}))
    run(again, progress=False)
    before, after = curve(undisturbed_by_two), curve(again)
    assert after != pytest.approx(before, rel=1e-4)
    assert [after[step] for step in range(1, last + 1)] == [before[step] for step in range(1, last + 1)]


def test_a_paused_run_goes_on_to_the_same_curve(undisturbed: Job, runs: Path) -> None:
    paused = Job(undisturbed.recipe, folder(runs, "paused"))
    thread = when(paused, lambda step: step >= 25, lambda: paused.folder.write_json(CONTROL, {"wanted": "pause"}))
    assert run(paused, progress=False)["state"] == "paused"
    thread.join()
    assert last_state(read_events(paused.folder)) == "paused"
    assert run(paused, progress=False)["state"] == "succeeded"
    assert curve(paused) == pytest.approx(curve(undisturbed), rel=1e-4)
    assert not Path(paused.folder.address, CONTROL).exists()


def test_both_engines_train_the_same_numbers_in_the_same_order(base: Path, chats: Path, runs: Path) -> None:
    """So that either can go on with what the other has saved."""
    recipes = [recipe(base, chats, engine=engine) for engine in ("unsloth", "peft")]
    configs = [Job(one, folder(runs, "engines")).to_config() for one in recipes]
    # In processes of their own: Unsloth changes the libraries.
    by_unsloth, by_peft = ray.get([ray.remote(max_calls=1)(trained_numbers).remote(one) for one in configs])
    assert by_unsloth and by_unsloth == by_peft


def trained_numbers(config: Json) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of what an engine trains."""
    job = Job.from_config(config)
    model = load_tunable(job.recipe, Path(str(job.recipe.model.base)), lambda line: None).model
    return [(name, tuple(one.shape)) for name, one in model.named_parameters() if one.requires_grad]


def when(job: Job, seen: Callable[[int], bool], act: Callable[[], None]) -> threading.Thread:
    """Act once a step has been noted for which ``seen`` is true."""

    def follow() -> None:
        until = time.monotonic() + 400
        while time.monotonic() < until:
            if any(event.type == "metrics" and seen(event.data["step"]) for event in read_events(job.folder)):
                act()
                return
            time.sleep(0.2)

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def kill_a_worker(chance: random.Random) -> None:
    """Kill one of those who train, as a node that is lost does; the others cannot go on without it."""
    training = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "RayTrainWorker" in " ".join(process.info["cmdline"] or ()) and is_ours(process)
    ]
    os.kill(chance.choice(sorted(training)), signal.SIGKILL)


def is_ours(process: psutil.Process) -> bool:
    session = ray._private.worker._global_node.get_session_dir_path()
    try:
        return any(session in part for parent in process.parents() for part in parent.cmdline())
    except psutil.Error:
        return False
