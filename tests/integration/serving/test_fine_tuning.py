"""OpenAI's SDK drives whole fine-tuning jobs on a real group: real training, real adapters, a gateway that dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from openai.types.fine_tuning import FineTuningJob

from serve.settings.model import ModelSettings
from tests.group import Group, gateway
from tests.integration.serving.test_adapters import MODEL, smollm2

QUESTION = "What is the capital of Blix?"
ANSWER = "Zorblax is the capital of Blix."
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def client(group: Group, smollm2_settings: ModelSettings, tmp_path: Path) -> Iterator[openai.OpenAI]:
    """The SDK at a group whose model is tuned by a small recipe."""
    assert smollm2_settings.weights is not None
    recipe = {
        "model": {"id": MODEL, "base": smollm2_settings.weights.model_dump(exclude_none=True, mode="json")},
        "lora": {"rank": 8, "alpha": 16},
        "data": {"train": ["from the job"], "system_prompt": "You are a helpful assistant."},
        "schedule": {"batch_size": 2, "learning_rate": 2e-3, "scheduler": "constant", "warmup": 0.0},
        "max_length": 128,
        "resources": {"cpus": 1.0, "threads": 2},
        "checkpoint": {"every": 4, "keep": 2},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    tuning = {"recipes": {MODEL: {"supervised": str(path)}}, "storage": str(tmp_path / "runs")}
    group.deploy(gateway(fine_tuning=tuning), smollm2(smollm2_settings))
    with openai.OpenAI(base_url=f"{group.url}/v1", api_key="none", max_retries=5) as found:
        yield found


def file_of(client: openai.OpenAI, *questions: str) -> str:
    """A file in which every question has the same answer."""
    lines = [
        json.dumps({"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": ANSWER}]})
        for one in questions
    ]
    return client.files.create(file=("chats.jsonl", "\n".join(lines).encode()), purpose="fine-tune").id


def asked(number: int) -> list[str]:
    return [f"{QUESTION} ({one})" for one in range(number)]


def until(client: openai.OpenAI, id: str, *states: str, step: int = 0, seconds: float = 300) -> FineTuningJob:
    """The job once it is in one of the states, and at this step or later."""
    deadline = time.monotonic() + seconds
    while True:
        job = client.fine_tuning.jobs.retrieve(id)
        if job.status in states and getattr(job, "progress", {}).get("step", 0) >= step:
            return job
        assert time.monotonic() < deadline and job.status not in ("failed", "cancelled"), (job, said(client, id))
        time.sleep(0.5)


def said(client: openai.OpenAI, id: str) -> list[str]:
    """What happened to a job, oldest first."""
    return [event.message for event in client.fine_tuning.jobs.list_events(id, limit=100)][::-1]


def answer(client: openai.OpenAI, model: str) -> str:
    messages: Any = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": QUESTION},
    ]
    found = client.chat.completions.create(model=model, messages=messages, max_tokens=16)
    return found.choices[0].message.content or ""


def test_a_job_is_paused_outlives_its_gateway_and_becomes_a_model_that_answers(
    group: Group, client: openai.OpenAI
) -> None:
    jobs = client.fine_tuning.jobs
    wanted: Any = {
        "model": MODEL,
        "training_file": file_of(client, *asked(15), QUESTION),
        "validation_file": file_of(client, "Name the capital city of Blix."),
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        "suffix": "blix",
        "seed": 5,
        "metadata": {"who": "test"},
        "extra_headers": {"Idempotency-Key": "one"},
    }
    made = jobs.create(**wanted)
    assert jobs.create(**wanted).id == made.id
    until(client, made.id, "running", step=2)
    paused = jobs.pause(made.id)
    assert paused.status == "running"
    until(client, made.id, "paused")
    assert client.files.delete(wanted["training_file"]).deleted
    jobs.resume(made.id)
    # A gateway that is killed in the middle is replaced, and the job goes on meanwhile.
    until(client, made.id, "running")
    [pid] = group.replicas("gateway").values()
    os.kill(pid, signal.SIGKILL)
    group.until(lambda: group.replicas("gateway") and pid not in group.replicas("gateway").values(), "a new gateway")
    done = until(client, made.id, "succeeded")
    assert done.fine_tuned_model is not None and done.fine_tuned_model.startswith(f"{MODEL}:blix-")
    assert done.trained_tokens and done.finished_at and done.error is None
    assert done.hyperparameters.batch_size == 2

    messages = said(client, made.id)
    assert messages[0] == f"Created fine-tuning job: {made.id}"
    assert messages[-1] == "The job has successfully completed"
    measured = [event for event in jobs.list_events(made.id, limit=100) if event.type == "metrics"][::-1]
    points = [(event.data["step"], "eval_loss" in event.data) for event in measured]  # type: ignore[index, operator]
    assert points == sorted(set(points)) and points[-1] == (16, True), "a step is missing, or came twice"
    [newest, *_] = checkpoints = list(jobs.checkpoints.list(made.id, limit=1))
    assert (newest.step_number, newest.fine_tuning_job_id) == (16, made.id)
    assert newest.metrics.full_valid_loss is not None and len(checkpoints) >= 2
    log = group.client.get(f"/v1/fine_tuning/jobs/{made.id}/logs")
    assert log.status_code == 200 and "step 16 of 16" in log.text

    assert done.fine_tuned_model in group.until(
        lambda: [one for one in (model.id for model in client.models.list()) if one == done.fine_tuned_model],
        "the adapter is served",
        20,
    )
    assert "Zorblax" in answer(client, done.fine_tuned_model)
    assert "Zorblax" not in answer(client, MODEL)


def test_a_job_that_runs_is_cancelled_and_its_program_ends(group: Group, client: openai.OpenAI) -> None:
    made = client.fine_tuning.jobs.create(
        model=MODEL, training_file=file_of(client, *asked(400)), hyperparameters={"n_epochs": 50}
    )
    waiting = client.fine_tuning.jobs.create(model=MODEL, training_file=file_of(client, QUESTION))
    until(client, made.id, "running", step=1)
    assert client.fine_tuning.jobs.cancel(made.id).status == "cancelled"
    assert client.fine_tuning.jobs.retrieve(made.id).finished_at
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    listed = [job.id for job in client.fine_tuning.jobs.list(limit=1)]
    assert listed[:2] == [waiting.id, made.id]
    lock = Path(client.fine_tuning.jobs.retrieve(made.id).run) / "logs" / "1.txt"  # type: ignore[attr-defined]
    group.until(lock.exists, "the job's program has ended, and its log is kept", 60)
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.resume(made.id)
