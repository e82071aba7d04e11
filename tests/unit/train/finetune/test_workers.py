"""When the workers of a run are started again, and when it gives its place to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerGroupStartupTimeoutError
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from serve.settings.errors import SettingsError
from tests.finetuning import recipe, tiny_checkpoint, write_chats
from train.events import read_events
from train.finetune import workers
from train.finetune.faults import NoRoom, RunFailed
from train.finetune.job import Job
from train.finetune.wanted import PauseWanted
from train.finetune.workers import trained
from train.run_folder import RunFolder
from train.worker.tunable import EngineRefused

RETRIES = 2
DONE = {"state": "succeeded"}
NO_PLACE = NoRoom("1 x (1 CPU, 0 GPU) are not free")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    found = recipe(tiny_checkpoint(tmp_path / "base"), write_chats(tmp_path / "chats.jsonl", 3), retries=RETRIES)
    folder = RunFolder(str(tmp_path / "runs"), "one")
    folder.make()
    return Job(found, folder)


@pytest.fixture
def happen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What looks for room and starts of workers come to, one after the other; the last one again and again."""

    def of(outcomes: list[Any]) -> Callable[[Job], Any]:
        coming: Iterator[Any] = iter(outcomes)

        def next_one(job: Job) -> Any:
            outcome = next(coming, outcomes[-1])
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return next_one

    def happen(*, room: list[Any], starts: list[Any]) -> None:
        monkeypatch.setattr(workers, "require_room", of(room))
        monkeypatch.setattr(workers, "_fitted", of(starts))
        monkeypatch.setattr(workers, "_LAG_SECONDS", 0.2)
        monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.05)

    return happen


def lost() -> WorkerGroupError:
    return WorkerGroupError("lost", worker_failures={0: RuntimeError("out of memory")})


def test_a_run_that_finds_no_room_at_first_gives_its_place_up_at_once(job: Job, happen: Callable[..., None]) -> None:
    happen(room=[NO_PLACE, None], starts=[DONE])
    with pytest.raises(NoRoom, match="are not free") as told:
        trained(job, spare_serving=True)
    assert not told.value.after_loss


def test_what_lost_workers_had_is_waited_for_a_little(job: Job, happen: Callable[..., None]) -> None:
    happen(room=[None, NO_PLACE, NO_PLACE, None], starts=[lost(), DONE])
    assert trained(job, spare_serving=True) == DONE


def test_no_room_in_place_of_lost_workers_counts_as_an_interruption(job: Job, happen: Callable[..., None]) -> None:
    happen(room=[None, NO_PLACE], starts=[lost()])
    with pytest.raises(NoRoom) as told:
        trained(job, spare_serving=True)
    assert told.value.after_loss


def test_workers_that_are_lost_again_and_again_fail_the_run(job: Job, happen: Callable[..., None]) -> None:
    happen(room=[None], starts=[lost()] * (RETRIES + 1) + [DONE])
    with pytest.raises(RunFailed, match="out of memory"):
        trained(job, spare_serving=True)


def raised(error: Exception) -> WorkerGroupError:
    """A worker has raised it, as Ray Train hands it on."""
    wrapped = UserExceptionWithTraceback(error, "Traceback (most recent call last):\n...")
    return WorkerGroupError("lost", worker_failures={0: wrapped})


@pytest.mark.parametrize("error", [EngineRefused("Unsloth cannot train this model"), SettingsError("model.base: no")])
def test_what_workers_would_come_to_again_fails_the_run_at_once(
    job: Job, happen: Callable[..., None], error: Exception
) -> None:
    happen(room=[None], starts=[raised(error), DONE])
    with pytest.raises(RunFailed, match=f"the workers failed: {error}"):
        trained(job, spare_serving=True)


def test_what_a_worker_was_lost_by_is_told_in_a_line(job: Job, happen: Callable[..., None]) -> None:
    happen(room=[None], starts=[raised(RuntimeError("out of memory\nat step 3")), DONE])
    assert trained(job, spare_serving=True) == DONE
    [told] = [event.message for event in read_events(job.folder)]
    assert told == "worker 0 is lost: out of memory"


def test_workers_of_nodes_that_are_taken_away_in_order_are_started_again_as_often_as_it_takes(
    job: Job, happen: Callable[..., None]
) -> None:
    happen(room=[None], starts=[PreemptionError(PreemptionInfo(None, {"node": [0]}))] * (RETRIES + 3) + [DONE])
    assert trained(job, spare_serving=True) == DONE


def taken() -> ControllerError:
    """Ray Train has found no room."""
    return ControllerError(WorkerGroupStartupTimeoutError(num_workers=1))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that a person has started; what happens in it, in order."""
    told: list[str] = []
    monkeypatch.setattr(workers, "wait_until_free", lambda job: told.append("waits"))
    return told


def starts(monkeypatch: pytest.MonkeyPatch, told: list[str], *outcomes: Any) -> None:
    coming = iter(outcomes)

    def fitted(job: Job) -> Any:
        told.append("starts")
        outcome = next(coming)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(workers, "_fitted", fitted)


@pytest.mark.parametrize("hindrance", [taken(), lost()])
def test_a_run_by_hand_starts_its_workers_only_when_they_have_room_again(
    job: Job, waits: list[str], monkeypatch: pytest.MonkeyPatch, hindrance: Exception
) -> None:
    starts(monkeypatch, waits, hindrance, DONE)
    assert trained(job, spare_serving=False) == DONE
    assert waits == ["waits", "starts"] * 2


def test_room_that_others_were_faster_to_take_is_no_loss(
    job: Job, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts(monkeypatch, waits, *[taken()] * (RETRIES + 2), DONE)
    assert trained(job, spare_serving=False) == DONE


def test_a_run_that_is_to_pause_while_it_waits_starts_nothing(
    job: Job, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def paused(job: Job) -> None:
        raise PauseWanted

    monkeypatch.setattr(workers, "wait_until_free", paused)
    starts(monkeypatch, waits, DONE)
    with pytest.raises(PauseWanted):
        trained(job, spare_serving=False)
    assert waits == []
