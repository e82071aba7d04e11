"""A job that runs: followed by its events, ended by what its run left, published."""

from __future__ import annotations

import pytest

from serve.gateway.fine_tuning import following
from serve.gateway.fine_tuning.programs import Ended
from serve.store.records import JobStatus
from tests.unit.gateway.jobs import MODEL, Bench
from train.events import State
from train.jobs import Look, RunFolder


async def test_a_run_is_submitted_once_and_followed_by_its_events(one: Bench) -> None:
    job = await one.running()
    assert list(one.ray.commands) == [f"{job.id}-1"]
    command = one.ray.commands[f"{job.id}-1"]
    assert command[1:3] == ["-m", "train.finetune"] and job.id in command
    log = one.log(job)
    for step in (1, 2):
        log.write("metrics", f"step {step}", {"step": step, "total_steps": 10, "loss": 3.0 / step, "epoch": 0.1})
    await one.look()
    found = (await one.call("GET", f"/{job.id}")).json()
    assert found["progress"] == {"step": 2, "total_steps": 10, "loss": 1.5, "epoch": 0.1}
    assert found["estimated_finish"] >= found["created_at"]
    await one.look()
    assert [event.step for event in await one.told(job)].count(2) == 1


async def test_a_run_that_succeeded_is_published_under_the_jobs_own_name(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    done = await one.ended(job, Look("succeeded", exit_code=0), "succeeded")
    assert published == [("train.adapters", "publish", job.run, "--name", job.adapter)]
    assert (done.status, done.fine_tuned_model) == ("succeeded", f"{MODEL}:{job.adapter}")
    assert (done.trained_tokens, done.wanted) == (1234, None)
    assert (await one.told(done))[-1].message == "The job has successfully completed"
    await one.look()
    assert len(published) == 1


async def test_a_failure_to_publish_fails_the_job(one: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: str) -> Ended:
        return Ended(1, b"", "error: the registry cannot be written\n")

    monkeypatch.setattr(following, "run_module", run)
    done = await one.ended(await one.running(), Look("succeeded", exit_code=0), "succeeded")
    assert done.error == {
        "code": "publishing_failed",
        "message": "The adapter could not be published: the registry cannot be written",
        "param": None,
    }


@pytest.mark.parametrize(
    ("states", "look", "status", "code", "said"),
    [
        (("failed",), Look("failed", exit_code=1), "failed", "training_failed", "it is failed"),
        ((), Look("failed", exit_code=2), "failed", "training_failed", "the disk is full"),
        (("failed",), Look("failed", exit_code=75), "queued", None, None),
        ((), Look("failed", exit_code=75), "queued", None, None),
        ((), Look("stopped"), "cancelled", None, None),
        (("cancelled",), Look("stopped", exit_code=130), "cancelled", None, None),
        (("paused",), Look("succeeded", exit_code=0), "paused", None, None),
    ],
)
async def test_how_a_run_ended_decides_about_the_job(
    one: Bench, states: tuple[State, ...], look: Look, status: JobStatus, code: str | None, said: str | None
) -> None:
    done = await one.ended(await one.running(), look, *states)
    assert done.status == status
    assert (done.error and done.error["code"], done.error and done.error["message"]) == (code, said)
    assert RunFolder.of(done.run).read("logs/1.txt") == one.ray.printed.encode()


async def test_a_lost_run_goes_on_at_the_head_of_the_queue_and_not_for_ever(one: Bench) -> None:
    job = await one.running()
    later = await one.queued()
    for attempt in range(1, 4):
        job = await one.ended(job, Look("failed", exit_code=-9))
        assert (job.status, job.attempt, job.restarts) == ("queued", attempt, attempt)
        for _ in range(2):
            await one.look()
        job = await one.job(job.id)
        assert (job.status, job.attempt, job.submitted) == ("running", attempt + 1, True)
    job = await one.ended(job, Look("failed", exit_code=-9))
    assert (job.status, job.error and job.error["code"]) == ("failed", "run_lost")
    assert len([name for name in one.ray.commands if name.startswith(job.id)]) == 4
    assert (await one.job(later.id)).attempt == 1


async def test_a_run_that_is_hindered_again_and_again_fails_with_what_it_said_and_can_be_resumed(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    for restarts in (1, 2, 3):
        job = await one.ended(job, Look("failed", exit_code=75))
        assert (job.status, job.restarts) == ("queued", restarts)
        for _ in range(2):
            await one.look()
        job = await one.job(job.id)
    job = await one.ended(job, Look("failed", exit_code=75))
    assert job.error == {"code": "training_failed", "message": "the disk is full", "param": None}
    again = (await one.call("POST", f"/{job.id}/resume")).json()
    assert (again["status"], again["error"], again["finished_at"]) == ("queued", None, None)
    for _ in range(2):
        await one.look()
    job = await one.ended(await one.job(job.id), Look("succeeded", exit_code=0), "succeeded")
    assert (job.status, job.attempt, job.restarts) == ("succeeded", 5, 0)


async def test_a_run_that_was_lost_after_its_result_was_written_is_published(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    RunFolder.of(job.run).write_json("result.json", {"state": "succeeded", "trained_tokens": 5})
    done = await one.ended(job, Look("failed", exit_code=-9))
    assert (done.status, done.trained_tokens, len(published)) == ("succeeded", 5, 1)


@pytest.mark.parametrize("code", [75, -9])
async def test_publishing_is_tried_again_where_that_may_help(
    one: Bench, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    codes = [code, code, 0]

    async def run(*_: str) -> Ended:
        return Ended(codes.pop(0), b"", "error: the folder is away\n")

    monkeypatch.setattr(following, "run_module", run)
    job = await one.ended(await one.running(), Look("succeeded", exit_code=0), "succeeded")
    assert (job.status, job.restarts) == ("running", 1)
    assert "could not be published yet: the folder is away" in (await one.told(job))[-1].message
    for _ in range(2):
        await one.look()
    assert (await one.job(job.id)).status == "succeeded"
