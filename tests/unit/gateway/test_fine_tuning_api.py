"""OpenAI's fine-tuning API over HTTP: what is taken, what is refused, what is shown, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from serve.store import JobEvent
from tests.unit.gateway.group import listening
from tests.unit.gateway.jobs import MODEL, PAIR, Bench, bench
from tests.unit.gateway.uploads import key
from train.jobs import RunFolder

AT = datetime(2026, 5, 17, tzinfo=UTC)


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, fine_tuning={"unfinished_jobs": 3}) as found:
        yield found


async def refused(one: Bench, code: str, param: str | None, status: int = 400, **body: Any) -> str:
    """Creating a job with ``body`` is refused like this, and none is made."""
    headers = body.pop("headers", {})
    body = {"model": MODEL, "training_file": body.pop("training_file", None) or await one.file(), **body}
    answer = await one.call("POST", json=body, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    message: str = error["message"]
    return message


async def test_a_job_is_openais_object(one: Bench) -> None:
    file, other = await one.file(), await one.file()
    made = await one.create(
        training_file=file, validation_file=other, suffix="mine", seed=7, metadata={"who": "שלום 👩"}
    )
    created = made.pop("created_at")
    assert abs(created - datetime.now(UTC).timestamp()) < 60
    id = made["id"]
    assert id.startswith("ftjob-")
    hyperparameters = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert made == {
        "id": id,
        "object": "fine_tuning.job",
        "finished_at": None,
        "estimated_finish": None,
        "status": "validating_files",
        "error": None,
        "model": MODEL,
        "fine_tuned_model": None,
        "organization_id": "local",
        "training_file": file,
        "validation_file": other,
        "result_files": [],
        "trained_tokens": None,
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "seed": 7,
        "user_provided_suffix": "mine",
        "metadata": {"who": "שלום 👩"},
        "integrations": [],
        "progress": {},
        "attempt": 0,
        "run": made["run"],
    }
    assert Path(made["run"]).name == id
    assert (await one.call("GET", f"/{id}")).json() == {**made, "created_at": created}
    [event] = (await one.call("GET", f"/{id}/events")).json()["data"]
    assert event["message"] == f"Created fine-tuning job: {id}"
    assert (event["object"], event["level"], event["type"]) == ("fine_tuning.job.event", "info", "message")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"model": "nobody"}, "model_not_found", "model"),
        ({"model": f"{MODEL}:mine"}, "model_not_tunable", "model"),
        ({"training_file": "file-none"}, "file_not_found", "training_file"),
        ({"validation_file": "file-none"}, "file_not_found", "validation_file"),
        ({"suffix": "a b"}, "invalid_value", "suffix"),
        ({"suffix": "x" * 41}, "invalid_value", "suffix"),
        ({"seed": 2**32}, "invalid_value", "seed"),
        ({"integrations": [{"type": "wandb"}]}, "invalid_value", "integrations"),
        ({"hyperparameters": {"n_epochs": 0}}, "invalid_value", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"epochs": 1}}, "unknown_parameter", "hyperparameters.epochs"),
        ({"method": {"type": "reinforcement"}}, "invalid_value", "method.type"),
        ({"method": {"type": "dpo", "supervised": {}}}, "invalid_value", "method"),
        ({"method": {"type": "dpo"}}, "wrong_examples", "training_file"),
        ({"method": {"type": "supervised"}, "hyperparameters": {}}, "invalid_value", "hyperparameters"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
        ({"headers": {"idempotency-key": "x" * 256}}, "invalid_value", None),
    ],
)
async def test_what_cannot_be_carried_out_is_refused_by_name(
    one: Bench, body: dict[str, Any], code: str, param: str | None
) -> None:
    await refused(one, code, param, 404 if code == "model_not_found" else 400, **body)
    assert (await one.call("GET")).json()["data"] == []


async def test_files_must_be_of_the_right_kind_and_the_callers_own(one: Bench) -> None:
    pairs = await one.file(PAIR)
    assert "pairs" in await refused(one, "wrong_examples", "training_file", training_file=pairs)
    plain = await one.file(purpose="user_data", validation=None)
    assert "user_data" in await refused(one, "invalid_value", "training_file", training_file=plain)
    foreign = await one.file(tenant="key_other")
    await refused(one, "file_not_found", "training_file", training_file=foreign)
    made = await one.create(training_file=pairs, method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}})
    assert made["method"]["dpo"]["hyperparameters"]["beta"] == 0.3


async def test_a_model_without_a_recipe_cannot_be_tuned(one: Bench) -> None:
    one.group.configure()
    message = await refused(one, "model_not_tunable", "model")
    assert "fine_tuning.recipes" in message


async def test_a_method_without_a_recipe_is_refused(one: Bench) -> None:
    one.group.configure(fine_tuning={"recipes": {MODEL: {"supervised": str(one.recipe)}}})
    pairs = await one.file(PAIR)
    message = await refused(one, "model_not_tunable", "method", training_file=pairs, method={"type": "dpo"})
    assert "by the method dpo" in message
    await one.create()


async def test_an_idempotency_key_makes_one_job(one: Bench) -> None:
    file = await one.file()
    headers = {"idempotency-key": "abc"}
    made = await one.create(training_file=file, headers=headers)
    assert await one.create(training_file=file, headers=headers) == made
    await refused(one, "idempotency_key_reused", None, training_file=file, seed=1, headers=headers)
    # It is answered whatever has become of what it was made of.
    one.group.configure()
    assert (await one.create(training_file=file, headers=headers))["id"] == made["id"]
    assert len((await one.call("GET")).json()["data"]) == 1


async def test_a_caller_has_so_many_unfinished_jobs_at_most(one: Bench) -> None:
    made = [await one.create() for _ in range(3)]
    await refused(one, "quota_exceeded", None)
    assert (await one.call("POST", f"/{made[0]['id']}/cancel")).json()["status"] == "cancelled"
    await one.create()


async def test_what_jobs_keep_of_files_has_an_end_for_each_caller_and_for_all(one: Bench) -> None:
    file = await one.file()
    size = (await one.group.store.files.get(file, "local")).bytes
    room = {"copied_bytes": 1024, "all_copied_bytes": 2048}
    one.group.configure(fine_tuning={**one.settings, **room, "unfinished_jobs": 100})
    fits = 1024 // (2 * size)
    made = [await one.create(training_file=file, validation_file=file) for _ in range(fits)]
    message = await refused(one, "quota_exceeded", "training_file", training_file=file, validation_file=file)
    assert f"1024 bytes of your jobs, {fits * 2 * size} are taken, and this one's files have {2 * size}" in message
    # What is removed makes room.
    await one.call("POST", f"/{made[0]['id']}/cancel")
    await one.look()
    await one.create(training_file=file, validation_file=file)
    one.group.configure(fine_tuning={**one.settings, "all_copied_bytes": 1024, "unfinished_jobs": 100})
    message = await refused(one, "quota_exceeded", "training_file", training_file=file, validation_file=file)
    assert "of everybody's jobs" in message


async def test_keys_need_the_scope_and_see_their_own(one: Bench) -> None:
    made = await one.create()
    without, own = await key(one.group, "files", "inference", "admin"), await key(one.group, "fine_tuning")
    assert (await one.call("GET", headers=without)).status_code == 403
    assert (await one.call("GET", headers=own)).json()["data"] == []
    for method, path in (
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/checkpoints"),
        ("GET", "/logs"),
    ):
        answer = await one.call(method, f"/{made['id']}{path}", headers=own)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_only_some_states_can_be_left_for_others(one: Bench) -> None:
    job = await one.queued()
    for what, status in (("pause", "paused"), ("pause", "paused"), ("resume", "queued"), ("resume", "queued")):
        assert (await one.call("POST", f"/{job.id}/{what}")).json()["status"] == status
    for what in ("cancel", "cancel"):
        assert (await one.call("POST", f"/{job.id}/{what}")).json()["status"] == "cancelled"
    for what in ("pause", "resume"):
        answer = await one.call("POST", f"/{job.id}/{what}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_state")
    job = await one.running()
    assert (await one.call("POST", f"/{job.id}/pause")).json()["status"] == "running"
    answer = await one.call("POST", f"/{job.id}/resume")
    assert "is being paused" in answer.json()["error"]["message"]


async def test_only_failed_jobs_that_ran_are_resumed_and_they_count(one: Bench) -> None:
    never, ran = await one.queued(status="failed"), await one.queued(status="failed", attempt=1)
    answer = await one.call("POST", f"/{never.id}/resume")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_state")
    for _ in range(3):
        await one.queued()
    answer = await one.call("POST", f"/{ran.id}/resume")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "quota_exceeded")
    assert (await one.job(ran.id)).status == "failed"


async def test_events_are_shown_as_openais_newest_first_in_pages(one: Bench) -> None:
    job = await one.queued()
    await one.group.store.jobs.change(
        job,
        JobEvent(AT, "loss 1.5", kind="metrics", step=2, data={"step": 2, "loss": 1.5, "eval_loss": None}),
        JobEvent(AT, "slow", "warning"),
        JobEvent(AT, "on", kind="state", data={"state": "running"}),
    )
    first = (await one.call("GET", f"/{job.id}/events?limit=3")).json()
    assert [(event["message"], event["type"], event["level"]) for event in first["data"]] == [
        ("on", "message", "info"),
        ("slow", "message", "warn"),
        ("loss 1.5", "metrics", "info"),
    ]
    assert first["data"][2]["data"] == {"step": 2, "loss": 1.5, "eval_loss": None, "train_loss": 1.5}
    assert (first["has_more"], first["last_id"]) == (True, first["data"][2]["id"])
    rest = (await one.call("GET", f"/{job.id}/events?after={first['last_id']}")).json()
    assert (len(rest["data"]), rest["has_more"]) == (1, False)
    other = await one.queued()
    for after in (first["last_id"], "ftevent-1", "x" * 10_000, "\x00"):
        answer = await one.call("GET", f"/{other.id}/events", params={"after": after})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "after")


async def test_checkpoints_that_are_kept_are_listed(one: Bench) -> None:
    job = await one.queued()
    assert (await one.call("GET", f"/{job.id}/checkpoints")).json()["data"] == []
    saved = [
        JobEvent(AT, "saved", kind="checkpoint", step=step, data={"step": step, "loss": 1.0 / step, "eval_loss": 2.0})
        for step in (10, 20, 30)
    ]
    await one.group.store.jobs.change(job, *saved)
    run = RunFolder.of(job.run)
    for step in (20, 30):
        run.write(f"checkpoints/{step}/manifest.json", b"{}")
    run.write("checkpoints/40/half", b"")
    page = (await one.call("GET", f"/{job.id}/checkpoints?limit=1")).json()
    [newest] = page["data"]
    assert (newest["object"], newest["step_number"], page["has_more"]) == ("fine_tuning.job.checkpoint", 30, True)
    assert newest["fine_tuned_model_checkpoint"] == f"{MODEL}:{job.adapter}:ckpt-step-30"
    assert newest["metrics"] == {"step": 30, "train_loss": 1.0 / 30, "full_valid_loss": 2.0}
    rest = (await one.call("GET", f"/{job.id}/checkpoints?after={newest['id']}")).json()
    assert [one["step_number"] for one in rest["data"]] == [20]


async def test_logs_are_the_last_lines_of_all_attempts(one: Bench) -> None:
    job = await one.running()
    run = RunFolder.of(job.run)
    run.write("logs/1.txt", b"first\n\xff\n")
    await one.group.store.jobs.change(job, attempt=2)
    one.ray.looks[f"{job.id}-2"] = one.ray.looks[f"{job.id}-1"]
    answer = await one.call("GET", f"/{job.id}/logs")
    assert answer.text == "first\n\ufffd\n" + one.ray.printed
    assert answer.headers["content-type"].startswith("text/plain")
    assert (await one.call("GET", f"/{job.id}/logs?tail=1")).text == "error: the disk is full\n"
    one.ray.down = True
    assert (await one.call("GET", f"/{job.id}/logs")).status_code == 503


async def test_the_openai_sdk_lists_by_pages_and_reads_all_of_it(one: Bench) -> None:
    async with (
        listening(one.group.app) as address,
        openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client,
    ):
        jobs = client.fine_tuning.jobs
        made = [
            await jobs.create(
                model=MODEL,
                training_file=await one.file(),
                method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": n + 1}}},
                metadata={"n": str(n % 2)},
                extra_headers={"Idempotency-Key": f"{n}"},
            )
            for n in range(3)
        ]
        assert [job.id async for job in jobs.list(limit=1)] == [job.id for job in made[::-1]]
        assert [job.id async for job in jobs.list(metadata={"n": "1"})] == [made[1].id]
        assert (await jobs.retrieve(made[2].id)).hyperparameters.n_epochs == 3
        assert [event.message async for event in jobs.list_events(made[0].id)] == [
            f"Created fine-tuning job: {made[0].id}"
        ]
        assert [checkpoint.id async for checkpoint in jobs.checkpoints.list(made[0].id)] == []
        assert (await jobs.cancel(made[0].id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            await jobs.resume(made[0].id)
        with pytest.raises(openai.NotFoundError):
            await jobs.retrieve("ftjob-none")


async def test_lists_refuse_what_they_do_not_know(one: Bench) -> None:
    for path, param in (
        ("?limit=0", "limit"),
        ("?limit=x", "limit"),
        ("?order=asc", "order"),
        ("?after=ftjob-none", "after"),
    ):
        answer = await one.call("GET", path)
        assert answer.json()["error"]["param"] == param, answer.text
    assert (await one.call("PUT")).headers["allow"] == "GET, HEAD, POST"
