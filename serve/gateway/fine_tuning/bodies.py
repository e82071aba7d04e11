"""Jobs, events and checkpoints as OpenAI's objects, and the ids by which lists of them go on."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from serve.errors import NotFound
from serve.store import FineTuningJob, JobEvent
from serve.store.records import Page

Json = dict[str, Any]

_LEVELS = {"info": "info", "warning": "warn", "error": "error"}
#: Measurement of a run -> OpenAI's name for it.
_METRICS = {"loss": "train_loss", "eval_loss": "full_valid_loss"}


def job_body(job: FineTuningJob) -> Json:
    """A job as OpenAI's object, with this group's own fields ``progress``, ``attempt`` and ``run``."""
    method = {key: value for key, value in job.method.items() if key == "type" or value is not None}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(job.created_at),
        "finished_at": None if job.finished_at is None else _seconds(job.finished_at),
        "estimated_finish": _estimated_finish(job),
        "status": job.status,
        "error": job.error,
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": job.tenant,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": [],
        "trained_tokens": job.trained_tokens,
        "hyperparameters": job.method[job.method["type"]]["hyperparameters"],
        "method": method,
        "seed": job.seed,
        "user_provided_suffix": job.suffix,
        "metadata": job.metadata,
        "integrations": [],
        "progress": {name: job.progress[name] for name in _SHOWN if name in job.progress},
        "attempt": job.attempt,
        "run": job.run,
    }


#: What of a job's progress its object shows.
_SHOWN = ("step", "total_steps", "epoch", "loss", "eval_loss", "tokens_per_second")


def event_body(job: FineTuningJob, event: JobEvent) -> Json:
    """An event as OpenAI's object; a state and a checkpoint are messages there."""
    return {
        "id": event_id(job, event),
        "object": "fine_tuning.job.event",
        "created_at": _seconds(event.at),
        "level": _LEVELS[event.level],
        "type": "metrics" if event.kind == "metrics" else "message",
        "message": event.message,
        "data": {**event.data, **_metrics(event.data)} if event.kind == "metrics" else event.data,
    }


def checkpoint_body(job: FineTuningJob, event: JobEvent) -> Json:
    """A checkpoint as OpenAI's object."""
    return {
        "id": checkpoint_id(job, event),
        "object": "fine_tuning.job.checkpoint",
        "created_at": _seconds(event.at),
        "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": f"{job.model}:{job.adapter}:ckpt-step-{event.step}",
        "step_number": event.step,
        "metrics": {"step": event.step, **_metrics(event.data)},
    }


def list_body(page: Page[Any], data: list[Json]) -> Json:
    """A page of any of them."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": page.has_more}


def event_id(job: FineTuningJob, event: JobEvent) -> str:
    """The id of an event: its place among the job's events."""
    return f"ftevent-{_own(job)}-{event.position}"


def checkpoint_id(job: FineTuningJob, event: JobEvent) -> str:
    """The id of a checkpoint: the place of the event that told of it."""
    return f"ftckpt-{_own(job)}-{event.position}"


def position_of(job: FineTuningJob, id: str, kind: str) -> int:
    """The place that an id of this job's events (``ftevent``) or checkpoints (``ftckpt``) means.

    Raises:
        NotFound: it is none of this job.
    """
    found = re.fullmatch(rf"{kind}-{_own(job)}-([0-9]{{1,9}})", id)
    if found is None:
        raise NotFound(f"The job {job.id!r} has nothing with the id {id[:100]!r}.", param="after")
    return int(found[1])


def _own(job: FineTuningJob) -> str:
    return job.id.removeprefix("ftjob-")


def _metrics(data: Json) -> Json:
    return {name: data[ours] for ours, name in _METRICS.items() if data.get(ours) is not None}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _estimated_finish(job: FineTuningJob) -> int | None:
    """When a job that runs will be done, if it goes on as it has in this attempt."""
    progress = job.progress
    if job.status != "running" or progress.get("step", 0) <= progress.get("first_step", 0):
        return None
    pace = (progress["at"] - progress["first_at"]) / (progress["step"] - progress["first_step"])
    return int(progress["at"] + pace * (progress["total_steps"] - progress["step"]))
