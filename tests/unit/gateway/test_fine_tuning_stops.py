"""Jobs that are paused or cancelled, and what stays of their folders."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from serve.gateway.fine_tuning import following
from serve.gateway.fine_tuning.programs import Ended
from serve.store.records import utc_now
from tests.unit.gateway.jobs import Bench
from train.events import State
from train.jobs import Look, RunFolder
from train.run_folder import CONTROL


async def test_a_job_that_runs_is_paused_when_it_has_saved_itself_and_can_go_on(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    await one.call("POST", f"/{job.id}/pause")
    await one.look()
    run = RunFolder.of(job.run)
    assert run.read_json(CONTROL) == {"wanted": "pause"}
    job = await one.ended(await one.job(job.id), Look("succeeded", exit_code=0), "paused")
    assert (job.status, job.wanted) == ("paused", None)
    await one.look()
    assert (await one.job(job.id)).status == "paused"
    assert (await one.call("POST", f"/{job.id}/resume")).json()["status"] == "queued"
    await one.look()
    await one.look()
    job = await one.job(job.id)
    assert (job.status, job.attempt, job.progress) == ("running", 2, {})
    # What the attempt before said last is not taken for what this one says.
    job = await one.ended(job, Look("failed", exit_code=-9))
    assert (job.status, job.restarts) == ("queued", 1)
    assert published == []


async def test_a_run_that_is_hindered_while_it_should_pause_is_paused(one: Bench) -> None:
    job = await one.running()
    await one.call("POST", f"/{job.id}/pause")
    job = await one.ended(await one.job(job.id), Look("failed", exit_code=75), "failed")
    assert (job.status, job.wanted) == ("paused", None)


async def test_a_job_that_runs_is_cancelled_at_once_and_stopped_in_ray(one: Bench) -> None:
    job = await one.running()
    assert (await one.call("POST", f"/{job.id}/cancel")).json()["status"] == "cancelled"
    one.ray.down = True
    await one.look()
    assert (await one.job(job.id)).wanted == "cancel"
    one.ray.down = False
    await one.look()
    assert one.ray.looks[f"{job.id}-1"].status == "stopped"
    await one.look()
    done = await one.job(job.id)
    assert (done.status, done.wanted) == ("cancelled", None)
    assert await one.group.store.jobs.active() == ()


async def test_a_job_that_is_cancelled_before_it_ran_leaves_nothing(one: Bench) -> None:
    made = await one.create()
    await one.look()
    assert (Path(made["run"]) / "files" / "training_file.jsonl").exists()
    await one.call("POST", f"/{made['id']}/cancel")
    await one.look()
    assert not Path(made["run"]).exists()
    assert await one.group.store.jobs.active() == ()


async def test_a_job_that_is_cancelled_later_leaves_no_copy_of_its_data(one: Bench) -> None:
    job = await one.running()
    run = RunFolder.of(job.run)
    for path in ("files/training_file.jsonl", "data/train/0.parquet", "checkpoints/5/manifest.json"):
        run.write(path, b"{}")
    await one.call("POST", f"/{job.id}/cancel")
    for _ in range(2):
        await one.look()
    assert (run.names("files"), run.names("data"), run.names("checkpoints")) == ([], [], ["5"])
    assert run.read("logs/1.txt") == one.ray.printed.encode()


async def test_an_adapter_that_was_published_while_its_job_was_cancelled_is_taken_back(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await one.running()
    withdrawn: list[str] = []

    async def run(*_: str) -> Ended:
        await one.call("POST", f"/{job.id}/cancel")
        return Ended(0, b"", "")

    monkeypatch.setattr(following, "run_module", run)
    monkeypatch.setattr(following, "_withdraw", lambda job: withdrawn.append(job.adapter))
    done = await one.ended(job, Look("succeeded", exit_code=0), "succeeded")
    assert (done.status, done.fine_tuned_model) == ("cancelled", None)
    assert withdrawn == [job.adapter]


async def test_an_adapter_is_taken_back_whose_gateway_was_killed_before_it_could_say_so(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await one.running()
    withdrawn: list[str] = []
    monkeypatch.setattr(following, "_withdraw", lambda job: withdrawn.append(job.adapter))
    one.ray.looks[job.submission] = Look("succeeded", exit_code=0)
    await one.call("POST", f"/{job.id}/cancel")
    await one.look()
    assert withdrawn == [job.adapter]


async def test_a_job_that_failed_can_be_given_up_with_its_copies(one: Bench) -> None:
    job = await one.ended(await one.running(), Look("failed", exit_code=2))
    run = RunFolder.of(job.run)
    run.write("files/training_file.jsonl", b"{}")
    assert (job.status, job.copied_bytes > 0) == ("failed", True)
    # Nothing new is begun by it, so it does not matter how much the caller has under way.
    one.group.configure(fine_tuning={**one.settings, "unfinished_jobs": 1})
    await one.queued()
    given_up = (await one.call("POST", f"/{job.id}/cancel")).json()
    assert (given_up["status"], given_up["error"]) == ("cancelled", None)
    await one.look()
    job = await one.job(job.id)
    assert (job.copied_bytes, job.wanted, run.names("files")) == (0, None, [])


@pytest.mark.parametrize(
    ("look", "states"), [(Look("succeeded", exit_code=0), ("succeeded",)), (Look("stopped"), ())]
)
async def test_copies_go_when_no_run_will_need_them(
    one: Bench, published: list[tuple[str, ...]], look: Look, states: tuple[State, ...]
) -> None:
    job = await one.running()
    run = RunFolder.of(job.run)
    for path in ("files/training_file.jsonl", "data/train/0.parquet", "adapter/x"):
        run.write(path, b"{}")
    assert job.copied_bytes > 0
    job = await one.ended(job, look, *states)
    assert (job.copied_bytes, run.names("files"), run.names("data"), run.names("adapter")) == (0, [], [], ["x"])
    assert len(published) == len(states)


async def test_the_folder_of_a_run_stays_for_some_days(one: Bench) -> None:
    ages = {"young": 29, "old": 31}
    jobs = {}
    for name, days in ages.items():
        jobs[name] = await one.queued(status="failed", attempt=1, finished_at=utc_now() - timedelta(days=days))
    jobs["unfinished"] = await one.queued(status="paused")
    for job in jobs.values():
        RunFolder.of(job.run).write("files/x", b"x")
    one.group.runner._sweep_at = 0.0
    await one.look()
    kept = {name: (await one.job(job.id)).copied_bytes > 0 for name, job in jobs.items()}
    assert kept == {"young": True, "old": False, "unfinished": True}
    assert [name for name, job in jobs.items() if Path(job.run).exists()] == ["young", "unfinished"]
