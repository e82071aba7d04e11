"""What a run that waits for its workers' room says of it, and what it hears meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from tests.finetuning import recipe
from train.events import read_events
from train.finetune import waiting
from train.finetune.faults import RayUnreachable
from train.finetune.job import Job
from train.finetune.waiting import wait_until_free
from train.finetune.wanted import PauseWanted
from train.run_folder import CONTROL, RunFolder

See = Callable[..., list[str]]

#: Not its function of that name.
groups = import_module("ray.util.placement_group")


class Clock:
    """Time that passes only while somebody sleeps.

    Attributes:
        naps: how long each time.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(waiting, "time", found)
    return found


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = RunFolder(str(tmp_path / "runs"), "one")
    folder.make()
    return Job(recipe(tmp_path / "base", tmp_path / "chats.jsonl"), folder)


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> See:
    """What looks at Ray come to, till so many seconds are over; gives what is done to the request."""
    done: list[str] = []

    @contextmanager
    def asked(bundles: list[dict[str, float]]) -> Iterator[str]:
        done.append("asked")
        try:
            yield "group"
        finally:
            done.append("given back")

    def see(*, free_after: float, why: str = "NO_RESOURCES", fault: Exception | None = None) -> list[str]:
        end = clock.now + free_after

        def table(group: object) -> dict[str, Any]:
            if fault is not None:
                raise fault
            return {"state": "CREATED" if clock.now >= end else "PENDING", "stats": {"scheduling_state": why}}

        monkeypatch.setattr(waiting, "_asked", asked)
        monkeypatch.setattr(groups, "placement_group_table", table)
        return done

    return see


def told(job: Job) -> list[str]:
    return [event.message for event in read_events(job.folder)]


def test_room_that_is_there_is_not_waited_for(job: Job, see: See, clock: Clock) -> None:
    done = see(free_after=0)
    wait_until_free(job)
    assert (done, clock.naps, told(job)) == (["asked", "given back"], [], [])


def test_a_short_wait_is_not_worth_a_word(job: Job, see: See) -> None:
    see(free_after=4)
    wait_until_free(job)
    assert told(job) == []


def test_looks_become_rarer_and_a_wish_is_heard_within_seconds_all_the_same(job: Job, see: See, clock: Clock) -> None:
    see(free_after=3600)
    wait_until_free(job)
    assert clock.naps == sorted(clock.naps)
    assert clock.naps[0] <= 0.1 and 1.0 <= clock.naps[-1] <= 2.0


def test_what_is_waited_for_is_told_and_then_told_again_every_so_often(job: Job, see: See) -> None:
    see(free_after=3600)
    wait_until_free(job)
    first, *again = told(job)
    assert first == "waiting for 1 x (1 CPU, 0 GPU) to be free"
    assert len(again) == 5
    assert again[0] == "still waiting for 1 x (1 CPU, 0 GPU), for 10 minutes now"
    states = [event.data["state"] for event in read_events(job.folder) if event.type == "state"]
    assert states == ["starting"]


def test_it_is_told_where_no_node_could_ever_hold_the_workers(job: Job, see: See) -> None:
    see(free_after=20, why="INFEASIBLE")
    wait_until_free(job)
    assert told(job) == ["waiting for 1 x (1 CPU, 0 GPU) to be free; no nodes that there are could hold them"]


def test_a_wish_to_pause_ends_the_wait_and_the_request(job: Job, see: See) -> None:
    done = see(free_after=3600)
    job.folder.write_json(CONTROL, {"wanted": "pause"})
    with pytest.raises(PauseWanted):
        wait_until_free(job)
    assert done == ["asked", "given back"]


def test_a_cluster_that_does_not_answer_is_said_to(job: Job, see: See) -> None:
    done = see(free_after=3600, fault=RaySystemError("the head node is gone"))
    with pytest.raises(RayUnreachable, match="the head node is gone"):
        wait_until_free(job)
    assert done == ["asked", "given back"]


@pytest.mark.parametrize("known", [{}, {"state": "REMOVED"}])
def test_a_cluster_that_was_started_anew_is_not_waited_for(
    job: Job, see: See, monkeypatch: pytest.MonkeyPatch, known: dict[str, str]
) -> None:
    see(free_after=3600)
    monkeypatch.setattr(groups, "placement_group_table", lambda group: known)
    with pytest.raises(RayUnreachable, match="no longer knows"):
        wait_until_free(job)
