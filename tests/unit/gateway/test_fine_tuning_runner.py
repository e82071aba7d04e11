"""Jobs from validation to their end: the queue, Ray's answers, the events of runs, restarts, several gateways."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from serve.gateway.fine_tuning import Runner, following, validation
from serve.gateway.fine_tuning.programs import Ended
from serve.store import FineTuningJob
from serve.store.records import JobStatus, utc_now
from tests.shapes import SMOLLM2
from tests.unit.gateway.jobs import MODEL, PAIR, Bench, bench
from train.events import State
from train.jobs import Look, RunFolder
from train.run_folder import CONTROL


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, {"schedule": {"learning_rate": 1e-3, "max_steps": 5}}) as found:
        yield found


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was published: publishing itself is not the runner's."""
    calls: list[tuple[str, ...]] = []

    async def run(module: str, *arguments: str) -> Ended:
        calls.append((module, *arguments))
        return Ended(0, b"", "")

    monkeypatch.setattr(following, "run_module", run)
    return calls


async def ended(one: Bench, job: FineTuningJob, look: Look, *states: State) -> FineTuningJob:
    """The job after its program has ended like this, with its run having said this before."""
    log = one.log(job)
    for state in states:
        log.state(state, f"it is {state}", {"code": "X"} if state == "failed" else None)
    if "succeeded" in states:
        RunFolder.of(job.run).write_json("result.json", {"state": "succeeded", "trained_tokens": 1234})
    one.ray.looks[job.submission] = look
    await one.look()
    return await one.job(job.id)


async def test_a_valid_job_is_queued_with_its_plan_and_its_own_copies(one: Bench, tmp_path: Path) -> None:
    hyperparameters = {"n_epochs": 2, "learning_rate_multiplier": 0.5}
    made = await one.create(seed=11, hyperparameters=hyperparameters)
    await one.look()
    job = await one.job(made["id"])
    assert (job.status, job.error) == ("queued", None)
    assert job.queued_at is not None and job.plan is not None
    numbers = job.method["supervised"]["hyperparameters"]
    assert numbers == {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.5}
    run = RunFolder.of(job.run)
    recipe = yaml.safe_load(run.read("job.yaml") or b"")
    assert (recipe["seed"], recipe["objective"], recipe["schedule"]["epochs"]) == (11, "sft", 2.0)
    assert "max_steps" not in recipe["schedule"]
    assert recipe["schedule"]["learning_rate"] == pytest.approx(5e-4)
    for folder in (tmp_path / "runs", Path(job.run), Path(job.run) / "files"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [training] = recipe["data"]["train"]
    assert Path(training).is_relative_to(job.run)
    assert Path(training).read_bytes().count(b"\n") == 3


async def test_pairs_and_a_validation_file_go_into_the_recipe(one: Bench) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.4, "batch_size": 2}}}
    file = await one.file(PAIR)
    made = await one.create(training_file=file, validation_file=file, method=method)
    await one.look()
    recipe = yaml.safe_load(RunFolder.of(made["run"]).read("job.yaml") or b"")
    assert (recipe["objective"], recipe["beta"], recipe["schedule"]["batch_size"]) == ("dpo", 0.4, 2)
    # Not the rate of the recipe for answers.
    assert recipe["schedule"]["learning_rate"] == 5e-5
    assert [Path(path).name for path in recipe["data"]["validation"]] == ["validation_file.jsonl"]


async def test_a_recipe_with_faults_fails_the_job_with_the_fault(one: Bench) -> None:
    one.recipe.write_text(
        yaml.safe_dump({"model": {"id": MODEL, "base": "b"}, "data": {"train": ["x"]}, "wrkers": 1})
    )
    made = await one.create()
    await one.look()
    error = (await one.call("GET", f"/{made['id']}")).json()["error"]
    assert not Path(made["run"]).exists()
    assert error["code"] == "invalid_recipe"
    assert "wrkers" in error["message"] and "workers" in error["message"]


async def test_a_recipe_for_another_method_fails_the_job(one: Bench) -> None:
    recipe = yaml.safe_load(one.recipe.read_text())
    one.recipe.write_text(yaml.safe_dump({**recipe, "objective": "dpo"}))
    made = await one.create()
    await one.look()
    job = await one.job(made["id"])
    assert job.error is not None and job.error["code"] == "invalid_recipe"
    assert "for supervised has the objective dpo, not sft" in job.error["message"]


async def test_a_file_that_is_deleted_before_the_validation_fails_the_job(one: Bench) -> None:
    file = await one.file()
    made = await one.create(training_file=file)
    await one.group.keeper.remove(await one.group.store.files.get(file, "local"))
    await one.look()
    job = await one.job(made["id"])
    assert (job.status, job.error and job.error["code"]) == ("failed", "file_not_found")
    assert job.finished_at is not None
    assert (await one.told(job))[-1].level == "error"


async def test_a_job_that_can_never_fit_fails_and_says_what_there_is(one: Bench) -> None:
    one.cluster.minimum = [{"CPU": 3.5}]
    made = await one.create()
    await one.look()
    job = await one.job(made["id"])
    assert job.error is not None and job.error["code"] == "not_enough_resources"
    assert "1 x (1 CPU, 0 GPU)" in job.error["message"] and "0.5 CPU" in job.error["message"]


async def test_the_first_of_the_queue_starts_when_there_is_room_and_nobody_overtakes_it(one: Bench) -> None:
    large = await one.queued(plan={"workers": 3, "cpus": 1.0, "gpus": 0, "bytes": None})
    small = await one.queued()
    one.cluster.free["CPU"] = 2.0
    for _ in range(2):
        await one.look()
    assert [(await one.job(job.id)).status for job in (large, small)] == ["queued", "queued"]
    told = [event.message for event in await one.told(large)]
    assert told.count("Waiting for 3 x (1 CPU, 0 GPU) to be free") == 1
    one.cluster.free["CPU"] = 3.0
    await one.look()
    assert [(await one.job(job.id)).status for job in (large, small)] == ["running", "queued"]
    # Its workers have not taken what they will take.
    await one.look()
    assert (await one.job(small.id)).status == "queued"
    one.log(large).state("running", "the workers are there")
    one.cluster.free["CPU"] = 1.0
    await one.look()
    await one.look()
    assert (await one.job(small.id)).status == "running"


async def test_what_a_job_takes_is_kept_for_it_while_its_workers_are_lost(one: Bench) -> None:
    wide = await one.queued(plan={"workers": 3, "cpus": 1.0, "gpus": 0, "bytes": None})
    await one.look()
    await one.look()
    log = one.log(wide)
    log.state("running", "the workers are there")
    log.state("starting", "worker 1 is lost")
    await one.look()
    other = await one.queued(plan={"workers": 2, "cpus": 1.0, "gpus": 0, "bytes": None})
    await one.look()
    assert (await one.job(other.id)).status == "queued"
    log.state("running", "the workers are there again")
    await one.look()
    one.cluster.free["CPU"] = 2.0
    await one.look()
    assert (await one.job(other.id)).status == "running"


async def test_what_serving_lacks_to_its_minimum_is_left_free(one: Bench) -> None:
    job = await one.queued()
    one.cluster.missing = [{"CPU": 3.5}]
    await one.look()
    assert (await one.job(job.id)).status == "queued"
    one.cluster.missing = []
    await one.look()
    assert (await one.job(job.id)).status == "running"


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
    done = await ended(one, job, Look("succeeded", exit_code=0), "succeeded")
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
    done = await ended(one, await one.running(), Look("succeeded", exit_code=0), "succeeded")
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
    done = await ended(one, await one.running(), look, *states)
    assert done.status == status
    assert (done.error and done.error["code"], done.error and done.error["message"]) == (code, said)
    assert RunFolder.of(done.run).read("logs/1.txt") == one.ray.printed.encode()


async def test_a_lost_run_goes_on_at_the_head_of_the_queue_and_not_for_ever(one: Bench) -> None:
    job = await one.running()
    later = await one.queued()
    for attempt in range(1, 4):
        job = await ended(one, job, Look("failed", exit_code=-9))
        assert (job.status, job.attempt, job.restarts) == ("queued", attempt, attempt)
        for _ in range(2):
            await one.look()
        job = await one.job(job.id)
        assert (job.status, job.attempt, job.submitted) == ("running", attempt + 1, True)
    job = await ended(one, job, Look("failed", exit_code=-9))
    assert (job.status, job.error and job.error["code"]) == ("failed", "run_lost")
    assert len([name for name in one.ray.commands if name.startswith(job.id)]) == 4
    assert (await one.job(later.id)).attempt == 1


async def test_a_run_that_is_hindered_again_and_again_fails_with_what_it_said_and_can_be_resumed(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    for restarts in (1, 2, 3):
        job = await ended(one, job, Look("failed", exit_code=75))
        assert (job.status, job.restarts) == ("queued", restarts)
        for _ in range(2):
            await one.look()
        job = await one.job(job.id)
    job = await ended(one, job, Look("failed", exit_code=75))
    assert job.error == {"code": "training_failed", "message": "the disk is full", "param": None}
    again = (await one.call("POST", f"/{job.id}/resume")).json()
    assert (again["status"], again["error"], again["finished_at"]) == ("queued", None, None)
    for _ in range(2):
        await one.look()
    job = await ended(one, await one.job(job.id), Look("succeeded", exit_code=0), "succeeded")
    assert (job.status, job.attempt, job.restarts) == ("succeeded", 5, 0)


async def test_a_run_that_is_hindered_while_it_should_pause_is_paused(one: Bench) -> None:
    job = await one.running()
    await one.call("POST", f"/{job.id}/pause")
    job = await ended(one, await one.job(job.id), Look("failed", exit_code=75), "failed")
    assert (job.status, job.wanted) == ("paused", None)


@pytest.mark.parametrize("code", [75, -9])
async def test_publishing_is_tried_again_where_that_may_help(
    one: Bench, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    codes = [code, code, 0]

    async def run(*_: str) -> Ended:
        return Ended(codes.pop(0), b"", "error: the folder is away\n")

    monkeypatch.setattr(following, "run_module", run)
    job = await ended(one, await one.running(), Look("succeeded", exit_code=0), "succeeded")
    assert (job.status, job.restarts) == ("running", 1)
    assert "could not be published yet: the folder is away" in (await one.told(job))[-1].message
    for _ in range(2):
        await one.look()
    assert (await one.job(job.id)).status == "succeeded"


async def test_a_check_of_the_recipe_that_was_killed_is_made_again(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: str) -> Ended:
        return Ended(-9, b"", "")

    made = await one.create()
    with monkeypatch.context() as patched:
        patched.setattr(validation, "run_module", run)
        await one.look()
    assert (await one.job(made["id"])).status == "validating_files"
    await one.look()
    assert (await one.job(made["id"])).status == "queued"


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


async def test_a_run_that_rays_new_cluster_does_not_know_is_started_again(one: Bench) -> None:
    job = await one.running()
    # What a run says whose node is stopped in order.
    one.log(job).state("cancelled", "interrupted")
    one.ray.looks.clear()
    for _ in range(3):
        await one.look()
    again = await one.job(job.id)
    assert (again.status, again.attempt) == ("running", 2)
    assert f"{job.id}-2" in one.ray.looks


async def test_a_job_that_runs_is_paused_when_it_has_saved_itself_and_can_go_on(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    await one.call("POST", f"/{job.id}/pause")
    await one.look()
    run = RunFolder.of(job.run)
    assert run.read_json(CONTROL) == {"wanted": "pause"}
    job = await ended(one, await one.job(job.id), Look("succeeded", exit_code=0), "paused")
    assert (job.status, job.wanted) == ("paused", None)
    await one.look()
    assert (await one.job(job.id)).status == "paused"
    assert (await one.call("POST", f"/{job.id}/resume")).json()["status"] == "queued"
    await one.look()
    await one.look()
    job = await one.job(job.id)
    assert (job.status, job.attempt, job.progress) == ("running", 2, {})
    # What the attempt before said last is not taken for what this one says.
    job = await ended(one, job, Look("failed", exit_code=-9))
    assert (job.status, job.restarts) == ("queued", 1)
    assert published == []


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
    assert [name for name, job in jobs.items() if Path(job.run).exists()] == ["young", "unfinished"]


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
    done = await ended(one, job, Look("succeeded", exit_code=0), "succeeded")
    assert (done.status, done.fine_tuned_model) == ("cancelled", None)
    assert withdrawn == [job.adapter]


async def test_a_ray_that_does_not_answer_is_waited_for(one: Bench) -> None:
    job = await one.queued()
    one.ray.down = True
    for _ in range(3):
        await one.look()
    assert (await one.job(job.id)).submitted is False
    one.ray.down = False
    await one.look()
    assert (await one.job(job.id)).submitted is True


async def test_another_gateway_goes_on_when_the_one_that_ran_the_jobs_is_gone(one: Bench) -> None:
    job = await one.running()
    other = Runner(
        one.group.store,
        one.group.keeper,
        one.group.members,
        one.group.runner.settings,
        ray_jobs=one.ray,
        ask_capacity=one.cluster.capacity,
    )
    one.log(job).write("message", "said later")
    await one.look_with(other)
    assert "said later" not in [event.message for event in await one.told(job)]
    await one.group.runner.close()
    await one.look_with(other)
    assert "said later" in [event.message for event in await one.told(job)]
    await other.close()


async def test_a_gateway_that_starts_again_goes_on_with_what_is_in_the_database(one: Bench) -> None:
    job = await one.running()
    one.log(job).write("message", "said while no gateway was there")
    one.group.runner.start()
    one.group.runner.wake()
    for _ in range(500):
        if any("no gateway" in event.message for event in await one.told(job)):
            break
        await one.look()
    else:
        pytest.fail("the event did not come")
    assert list(one.ray.commands) == [f"{job.id}-1"]


async def test_the_memory_of_nodes_beside_their_models_is_what_workers_get(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SMOLLM2))
    recipe = {"model": {"id": MODEL, "base": str(base)}, "max_length": 512}
    async with bench(tmp_path / "one", recipe) as one:
        one.cluster.total["memory"] = 1e9
        made = await one.create()
        await one.look()
        job = await one.job(made["id"])
        assert job.error is not None and job.error["code"] == "not_enough_memory"
        one.cluster.total["memory"] = 20e9
        made = await one.create()
        await one.look()
        job = await one.job(made["id"])
        assert job.status == "queued" and job.plan is not None and 1e9 < job.plan["bytes"] < 8e9


async def test_a_run_that_was_lost_after_its_result_was_written_is_published(
    one: Bench, published: list[tuple[str, ...]]
) -> None:
    job = await one.running()
    RunFolder.of(job.run).write_json("result.json", {"state": "succeeded", "trained_tokens": 5})
    done = await ended(one, job, Look("failed", exit_code=-9))
    assert (done.status, done.trained_tokens, len(published)) == ("succeeded", 5, 1)


async def test_a_gateway_that_is_not_configured_yet_fails_no_job(one: Bench) -> None:
    made = await one.create()
    settings, one.group.runner.settings = one.group.runner.settings, None
    await one.look()
    assert (await one.job(made["id"])).status == "validating_files"
    one.group.runner.settings = settings
    await one.look()
    assert (await one.job(made["id"])).status == "queued"
