"""A run whose resources somebody else has."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray import serve

from tests.finetuning import folder, recipe
from train.events import last_state, read_events
from train.finetune.faults import NoRoom
from train.finetune.job import Job
from train.finetune.recipe import Recipe
from train.finetune.run import run
from train.finetune.workers import require_room
from train.run_folder import CONTROL

#: Seconds in which a run that waits hears what is wanted, on slow machines too.
SOON = 5.0


def short(base: Path, chats: Path) -> Recipe:
    """Over soon once it has begun."""
    return recipe(base, chats, engine="peft", schedule={"max_steps": 2})


@contextmanager
def others_work(cpus: int) -> Iterator[Callable[[], None]]:
    """Somebody else has so many CPUs of the cluster, until what this gives is called or all is over."""

    class Busy:
        def begun(self) -> bool:
            return True

    busy = ray.remote(num_cpus=cpus)(Busy).remote()
    assert ray.get(busy.begun.remote())
    try:
        yield lambda: ray.kill(busy)
    finally:
        ray.kill(busy)


def test_a_run_that_spares_serving_takes_no_room_that_is_not_there_and_goes_on_when_it_is(
    base: Path, chats: Path, runs: Path
) -> None:
    waiting = Job(short(base, chats), folder(runs, "waiting"))
    with others_work(2):
        with pytest.raises(NoRoom, match=re.escape("1 x (1 CPU, 0 GPU) are not free")):
            run(waiting, progress=False, spare_serving=True)
        assert last_state(read_events(waiting.folder)) == "queued"
    all_free()
    assert run(waiting, progress=False, spare_serving=True)["state"] == "succeeded"


def test_what_is_free_but_serving_lacks_is_left_alone(base: Path, chats: Path, runs: Path) -> None:
    class Model:
        pass

    deployment = serve.deployment(Model, ray_actor_options={"num_cpus": 2})
    sparing = Job(short(base, chats), folder(runs, "sparing"))
    try:
        with others_work(1):
            serve.start(proxy_location="Disabled")
            # It finds no two CPUs, of which one is free.
            model = serve.RunTarget(deployment.bind(), name="m", route_prefix=None)
            serve.run_many([model], wait_for_applications_running=False)
            with pytest.raises(NoRoom):
                run(sparing, progress=False, spare_serving=True)
    finally:
        serve.shutdown()
    all_free()
    require_room(sparing)


def all_free() -> None:
    """Wait until nobody has anything of the cluster."""
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_run_that_waits_for_resources_starts_nothing_says_so_hears_at_once_and_goes_on_when_they_are_free(
    base: Path, chats: Path, runs: Path
) -> None:
    waiting = Job(short(base, chats), folder(runs, "waits"))
    with others_work(2) as end:
        asked = once_it_waits(waiting, lambda: waiting.folder.write_json(CONTROL, {"wanted": "pause"}))
        assert run(waiting, progress=False) == {"state": "paused", "steps": 0}
        assert time.monotonic() - asked.result() < SOON
        asked = once_it_waits(waiting, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(waiting, progress=False)
        assert time.monotonic() - asked.result() < SOON
        assert last_state(read_events(waiting.folder)) == "cancelled"
        assert waiting.folder.names("ray") == [], "Ray Train has not been started"
        once_it_waits(waiting, end)
        assert run(waiting, progress=False)["state"] == "succeeded"


def once_it_waits(job: Job, act: Callable[[], object]) -> Future[float]:
    """Act when the run says, from now on, that it waits; gives when that was."""
    seen = len(read_events(job.folder))

    def follow() -> float:
        until = time.monotonic() + 400
        while not any("waiting for 1 x (1 CPU, 0 GPU)" in one.message for one in read_events(job.folder, seen)):
            assert time.monotonic() < until, "the run does not say that it waits"
            time.sleep(0.2)
        acted = time.monotonic()
        act()
        return acted

    threads = ThreadPoolExecutor(1)
    acting = threads.submit(follow)
    threads.shutdown(wait=False)
    return acting
