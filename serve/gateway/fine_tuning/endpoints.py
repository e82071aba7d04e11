"""The endpoints of OpenAI's fine-tuning API, and the logs of a job. Each caller sees its own jobs only."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from serve.errors import InvalidRequest, Unavailable
from serve.gateway.caller import caller_of
from serve.gateway.fine_tuning.bodies import (
    checkpoint_body,
    event_body,
    job_body,
    list_body,
    position_of,
)
from serve.gateway.fine_tuning.following import message
from serve.gateway.fine_tuning.requests import (
    MAX_SEED,
    CheckpointQuery,
    EventQuery,
    FineTuningRequest,
    JobQuery,
    LogQuery,
)
from serve.gateway.fine_tuning.runner import Runner
from serve.gateway.fine_tuning.validation import found_file, recipe_of, require_form
from serve.gateway.members import Members
from serve.gateway.query import query_of
from serve.protocol.http import header, read_body, send_bytes, send_json
from serve.protocol.validation import parse_json, parse_request
from serve.settings.gateway import FineTuning
from serve.store import FineTuningJob, JobEvent, JobRoom, Store, StoredFile
from serve.store.records import utc_now
from train.jobs import Checkpoints, JobsUnreachable, RunFolder, StorageError, kept_log

BODY_BYTES = 256 * 1024
_MAX_IDEMPOTENCY_KEY = 255
#: How often a change is tried that somebody else's change comes before.
_TRIES = 5
#: Characters of a job's id that tell its adapter apart from others.
_ID_PART = 8

#: What is to become of a job: fields and a sentence; none where it is so already.
Decision = tuple[dict[str, Any], JobEvent] | None


class FineTuningJobs:
    """The endpoints of fine-tuning jobs.

    Args:
        storage: where runs are kept that the settings state no folder for.
    """

    def __init__(self, store: Store, members: Members, runner: Runner, storage: str) -> None:
        self._storage = storage
        self._store = store
        self._jobs = store.jobs
        self._members = members
        self._runner = runner

    @property
    def _settings(self) -> FineTuning:
        return self._runner.settings or FineTuning()

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add a job; with an ``Idempotency-Key``, once however often it is asked for."""
        tenant = _tenant(scope)
        asked = parse_request(FineTuningRequest, parse_json(await read_body(scope, receive, BODY_BYTES)))
        job = self._new(tenant, asked, _idempotency_key(scope))
        made = await self._jobs.repeated(job)
        if made is None:
            files = await self._checked(asked, tenant)
            job = replace(job, copied_bytes=sum(file.bytes for file in files))
            made = await self._jobs.add(job, self._room(), message(f"Created fine-tuning job: {job.id}"))
            self._runner.wake()
        await send_json(send, job_body(made))

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page of the caller's jobs."""
        tenant = _tenant(scope)
        fields, metadata = query_of(scope)
        query = parse_request(JobQuery, fields)
        page = await self._jobs.list(tenant, limit=query.limit, after=query.after, metadata=metadata)
        await send_json(send, list_body(page, [job_body(one) for one in page.items]))

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One job."""
        await send_json(send, job_body(await self._found(scope)))

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End a job for good, or give up one that failed; nothing of it is published."""
        await send_json(send, job_body(await self._changed(scope, _cancelled)))

    async def pause(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a job save itself and give its resources back."""
        await send_json(send, job_body(await self._changed(scope, _paused)))

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put a job back into the queue that is paused, or whose run failed."""
        await send_json(send, job_body(await self._changed(scope, _resumed)))

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page of what happened to a job, newest first."""
        job = await self._found(scope)
        query = parse_request(EventQuery, query_of(scope)[0])
        after = None if query.after is None else position_of(job, query.after, "ftevent")
        page = await self._jobs.events(job.id, job.tenant, limit=query.limit, after=after)
        await send_json(send, list_body(page, [event_body(job, one) for one in page.items]))

    async def checkpoints(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page of a job's checkpoints that are still there, newest first."""
        job = await self._found(scope)
        query = parse_request(CheckpointQuery, query_of(scope)[0])
        after = None if query.after is None else position_of(job, query.after, "ftckpt")
        try:
            steps = await asyncio.to_thread(Checkpoints(RunFolder.of(job.run)).steps)
        except StorageError as error:
            raise _unreadable(error) from error
        page = await self._jobs.checkpoints(job.id, job.tenant, steps, limit=query.limit, after=after)
        await send_json(send, list_body(page, [checkpoint_body(job, one) for one in page.items]))

    async def logs(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The last lines of what a job's program printed, over all attempts."""
        job = await self._found(scope)
        query = parse_request(LogQuery, query_of(scope)[0])
        run = RunFolder.of(job.run)
        parts = []
        try:
            for attempt in range(1, job.attempt + 1):
                text = await asyncio.to_thread(kept_log, run, attempt)
                if text is None and attempt == job.attempt:
                    ray = await self._runner.ray_jobs()
                    text = await asyncio.to_thread(ray.log, job.submission)
                parts.append(text or "")
        except StorageError as error:
            raise _unreadable(error) from error
        except JobsUnreachable as error:
            raise Unavailable(f"Ray's Job API does not answer: {error}", retry_after=2) from error
        lines = "".join(parts).splitlines(keepends=True)[-query.tail :]
        await send_bytes(send, "".join(lines).encode(), content_type=b"text/plain; charset=utf-8")

    def _new(self, tenant: str, asked: FineTuningRequest, key: str | None) -> FineTuningJob:
        """The job of a request."""
        number = secrets.token_hex(12)
        method = asked.wanted_method
        storage = self._settings.storage or self._storage
        if "://" in storage:
            raise Unavailable("Jobs need a folder for their runs; see fine_tuning.storage.", code="no_run_folder")
        return FineTuningJob(
            id=f"ftjob-{number}",
            tenant=tenant,
            created_at=utc_now(),
            model=asked.model,
            adapter=f"{asked.suffix or 'ft'}-{number[:_ID_PART]}",
            run=RunFolder(storage, f"ftjob-{number}").address,
            training_file=asked.training_file,
            validation_file=asked.validation_file,
            fingerprint=hashlib.sha256(orjson.dumps(asked.model_dump(), option=orjson.OPT_SORT_KEYS)).hexdigest(),
            seed=secrets.randbelow(MAX_SEED + 1) if asked.seed is None else asked.seed,
            method={"type": method.type, method.type: {"hyperparameters": method.hyperparameters.model_dump()}},
            suffix=asked.suffix,
            metadata=asked.metadata or {},
            idempotency_key=key,
        )

    def _room(self) -> JobRoom:
        settings = self._settings
        return JobRoom(settings.unfinished_jobs, settings.copied_bytes, settings.all_copied_bytes)

    async def _checked(self, asked: FineTuningRequest, tenant: str) -> Sequence[StoredFile]:
        """The files of a job; raises for what can be said at once of these and of the model."""
        if ":" in asked.model:
            raise InvalidRequest(
                "An adapter cannot be tuned further; name the model that it belongs to.",
                param="model",
                code="model_not_tunable",
            )
        self._members.get(asked.model)
        recipe_of(asked.model, asked.wanted_method.type, self._settings)
        files = []
        for param, id in (("training_file", asked.training_file), ("validation_file", asked.validation_file)):
            if id is not None:
                file = await found_file(self._store.files.get, param, id, tenant)
                require_form(file, asked.wanted_method.type, param)
                files.append(file)
        return files

    async def _found(self, scope: Scope) -> FineTuningJob:
        return await self._jobs.get(scope["path_params"]["id"], _tenant(scope))

    async def _changed(self, scope: Scope, decide: Callable[[FineTuningJob], Decision]) -> FineTuningJob:
        """The job as ``decide`` wants it to be."""
        for _ in range(_TRIES):
            job = await self._found(scope)
            decision = decide(job)
            if decision is None:
                return job
            values, event = decision
            again = job.status == "failed" and values["status"] == "queued"
            most = self._settings.unfinished_jobs if again else None
            changed = await self._jobs.change(job, event, most=most, **values)
            if changed is not None:
                self._runner.wake()
                return changed
        raise Unavailable("The job changes too fast; try again.", retry_after=1)


def _cancelled(job: FineTuningJob) -> Decision:
    if job.status == "cancelled":
        return None
    # One that failed could go on, and keeps copies for that.
    if job.status == "succeeded" or (job.status == "failed" and not job.attempt):
        raise _wrong_state(job, "cancelled")
    ended = {"status": "cancelled", "wanted": "cancel", "finished_at": utc_now(), "error": None}
    return ended, message("The job was cancelled")


def _paused(job: FineTuningJob) -> Decision:
    if job.status == "paused" or job.wanted == "pause":
        return None
    if job.status == "running":
        return {"wanted": "pause"}, message("The job will be paused when it has saved a checkpoint")
    if job.status == "queued":
        return {"status": "paused", "queued_at": None}, message("The job is paused")
    raise _wrong_state(job, "paused")


def _resumed(job: FineTuningJob) -> Decision:
    if job.status in ("queued", "running") and job.wanted is None:
        return None
    told = message("The job was put back into the queue")
    if job.status == "paused":
        return {"status": "queued", "queued_at": utc_now()}, told
    # One that never ran has nothing to go on with.
    if job.status == "failed" and job.attempt:
        anew = {"error": None, "finished_at": None, "restarts": 0}
        return {"status": "queued", "queued_at": utc_now(), **anew}, told
    raise _wrong_state(job, "resumed")


def _wrong_state(job: FineTuningJob, what: str) -> InvalidRequest:
    now = "is being paused" if job.wanted == "pause" else f"is {job.status}"
    return InvalidRequest(f"The job {now} and cannot be {what}.", code="invalid_state")


def _unreadable(error: StorageError) -> Unavailable:
    return Unavailable(f"The folder of the job's run cannot be read: {error}", code="run_unreadable", retry_after=5)


def _tenant(scope: Scope) -> str:
    caller = caller_of(scope)
    caller.require("fine_tuning")
    return caller.tenant


def _idempotency_key(scope: Scope) -> str | None:
    found = header(scope, b"idempotency-key")
    if found is None:
        return None
    key = found.decode("latin-1")
    if not 1 <= len(key) <= _MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest(f"The header Idempotency-Key has from 1 to {_MAX_IDEMPOTENCY_KEY} characters.")
    return key
