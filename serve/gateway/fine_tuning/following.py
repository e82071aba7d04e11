"""What is done for a job that was started: given to Ray, followed by the events of its run, ended, published."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from typing import Any, ParamSpec, TypeVar

from serve.adapters.errors import AdapterMissing, RegistryError
from serve.adapters.registry import Registry
from serve.gateway.fine_tuning.programs import run_module
from serve.store import FineTuningJob, JobEvent, Store
from serve.store.records import Level, utc_now
from train.jobs import (
    NO_ROOM,
    RESULT,
    TRY_AGAIN,
    Event,
    Look,
    RayJobs,
    RunFolder,
    clear,
    command_of,
    keep_log,
    pause,
    read_events,
)

Json = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

#: Publishes what a run has tuned; the gateway starts it and imports nothing of it.
PUBLISH_MODULE = "train.adapters"
#: How often a job is started again that was lost, or hindered by what may pass; tries to publish count as well.
MAX_RESTARTS = 3
#: Exit codes of a program that has said by itself what is wrong.
_OWN_FAULT = (1, 2)
#: Fields of a measurement that a job's progress keeps.
_MEASURED = ("step", "total_steps", "epoch", "loss", "eval_loss", "learning_rate", "tokens", "tokens_per_second")

logger = logging.getLogger(__name__)


class Following:
    """Brings one job at a time forward. What blocks runs on the threads of the runner."""

    def __init__(self, store: Store, ray_jobs: Callable[[], Awaitable[RayJobs]], threads: Executor) -> None:
        self._jobs = store.jobs
        self._ray_jobs = ray_jobs
        self._threads = threads

    async def go_on(self, job: FineTuningJob) -> None:
        """Look at a job that runs, and do what is due.

        Raises:
            JobsUnreachable, StorageError, GroupQwenError: it has to be tried again.
        """
        ray, run = await self._ray_jobs(), RunFolder.of(job.run)
        if not job.submitted:
            await self._run(ray.submit, job.submission, command_of(run))
            await self._jobs.change(job, submitted=True)
            return
        # Before the events: those of a job that has ended are then all there.
        look = await self._run(ray.look, job.submission)
        followed = await self._index(job, run)
        if followed is None:
            return
        if look is not None and not look.ended:
            if followed.wanted == "pause":
                await self._run(pause, run)
            return
        if look is not None:
            await self._keep_log(followed, run, ray)
        await self._ended(followed, run, look or Look("failed", "Ray's cluster was started anew."))

    async def stop(self, job: FineTuningJob) -> None:
        """See that nothing of a job that was cancelled goes on running, or is kept that only its run needs.

        Raises:
            As ``go_on``.
        """
        run = RunFolder.of(job.run)
        if job.attempt:
            ray = await self._ray_jobs()
            look = await self._run(ray.look, job.submission)
            if look is not None and not look.ended:
                await self._run(ray.stop, job.submission)
                return
            if look is not None:
                await self._keep_log(job, run, ray)
        followed = await self._index(job, run)
        if followed is not None:
            # A gateway may have been killed between publishing and saying so.
            await self._run(_withdraw, followed)
            await self._run(clear, run, whole=job.attempt == 0)
            await self._jobs.change(followed, wanted=None, copied_bytes=0)

    async def _index(self, job: FineTuningJob, run: RunFolder) -> FineTuningJob | None:
        """Take the new events of a run into the database; none where the job was changed meanwhile."""
        events = await self._run(read_events, run, job.indexed)
        if not events:
            return job
        return await self._jobs.change(
            job, *map(_job_event, events), indexed=events[-1].seq, progress=_progress(job.progress, events)
        )

    async def _keep_log(self, job: FineTuningJob, run: RunFolder, ray: RayJobs) -> None:
        text = await self._run(ray.log, job.submission)
        await self._run(keep_log, run, job.attempt, text)

    async def _ended(self, job: FineTuningJob, run: RunFolder, look: Look) -> None:
        """Draw the conclusion from what the run left and said last, and from how its program ended."""
        state, hindered = job.progress.get("state"), look.exit_code == TRY_AGAIN
        result = await self._run(run.read_json, RESULT)
        if result is not None:
            await self._publish(job, run, result)
        elif state == "paused" or (job.wanted == "pause" and (hindered or state != "failed")):
            await self._jobs.change(job, message("The job is paused; its last checkpoint is kept."), **_PAUSED)
        elif look.exit_code == NO_ROOM:
            # The run has said why. It keeps its place, and it was no failure.
            await self._jobs.change(job, status="queued")
        elif look.status == "stopped":
            await self._run(clear, run, whole=False)
            await self._finish(job, message("The job was stopped in Ray."), status="cancelled", copied_bytes=0)
        elif hindered and job.restarts < MAX_RESTARTS:
            text = await self._last_line(job, look)
            told = message(f"The run goes on from its last checkpoint, since it was hindered: {text}", "warning")
            await self._jobs.change(job, told, status="queued", restarts=job.restarts + 1)
        elif state == "failed":
            await self._fail(job, "training_failed", str(job.progress.get("said") or look.message))
        elif hindered or look.exit_code in _OWN_FAULT:
            await self._fail(job, "training_failed", await self._last_line(job, look))
        elif job.restarts < MAX_RESTARTS:
            told = message("The run was lost; it goes on from its last checkpoint.", "warning")
            await self._jobs.change(job, told, status="queued", restarts=job.restarts + 1)
        else:
            await self._fail(job, "run_lost", f"The run was lost {MAX_RESTARTS + 1} times.")

    async def _publish(self, job: FineTuningJob, run: RunFolder, result: Json) -> None:
        ended = await run_module(PUBLISH_MODULE, "publish", run.address, "--name", job.adapter)
        reason = ended.last_error.removeprefix("error: ")
        if ended.passing and job.restarts < MAX_RESTARTS:
            told = message(f"The adapter could not be published yet: {reason}", "warning")
            await self._jobs.change(job, told, restarts=job.restarts + 1)
            return
        if ended.exit_code:
            await self._fail(job, "publishing_failed", f"The adapter could not be published: {reason}")
            return
        # Nothing of it goes on from here. Before the end is noted: what is noted is not looked at again.
        await self._run(clear, run, whole=False)
        name = f"{job.model}:{job.adapter}"
        done = await self._finish(
            job,
            message(f"New fine-tuned model created: {name}"),
            message("The job has successfully completed"),
            status="succeeded",
            fine_tuned_model=name,
            trained_tokens=result.get("trained_tokens"),
            copied_bytes=0,
        )
        if done is None and (await self._jobs.get(job.id, job.tenant)).status == "cancelled":
            await self._run(_withdraw, job)

    async def _fail(self, job: FineTuningJob, code: str, text: str) -> None:
        logger.warning("a fine-tuning job failed", extra={"job": job.id, "code": code})
        error = {"code": code, "message": text, "param": None}
        await self._finish(job, message(text, "error"), status="failed", error=error)

    async def _finish(self, job: FineTuningJob, *events: JobEvent, **values: Any) -> FineTuningJob | None:  # noqa: ANN401 - as change
        return await self._jobs.change(job, *events, finished_at=utc_now(), wanted=None, **values)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def _last_line(self, job: FineTuningJob, look: Look) -> str:
        """What a program said last that ended by itself."""
        text = await self._run((await self._ray_jobs()).log, job.submission)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1].removeprefix("error: ") if lines else look.message


#: What changes when a job is paused.
_PAUSED: Mapping[str, Any] = {"status": "paused", "wanted": None, "queued_at": None}


def message(text: str, level: Level = "info") -> JobEvent:
    """A sentence of the gateway's own about a job."""
    return JobEvent(utc_now(), text, level)


def _job_event(event: Event) -> JobEvent:
    step = event.data.get("step")
    return JobEvent(
        at=datetime.fromtimestamp(event.at, UTC),
        message=event.message,
        level=event.level,
        kind=event.type,
        step=step if isinstance(step, int) else None,
        data=event.data,
    )


def _progress(before: Json, events: list[Event]) -> Json:
    """The state, the last measurement, and the nodes of the workers after some more events."""
    progress = dict(before)
    for event in events:
        if "nodes" in event.data:
            progress["nodes"] = event.data["nodes"]
        if event.type == "state":
            progress |= {"state": event.data.get("state"), "said": event.message}
        elif event.type == "metrics" and "step" in event.data:
            progress |= {name: event.data[name] for name in _MEASURED if event.data.get(name) is not None}
            progress["at"] = event.at
            progress.setdefault("first_step", event.data["step"])
            progress.setdefault("first_at", event.at)
    return progress


def _withdraw(job: FineTuningJob) -> None:
    """Take an adapter back that was published for a job that is cancelled, if there is one."""
    try:
        Registry().withdraw(job.model, job.adapter)
    except AdapterMissing:
        pass
    except RegistryError as error:
        logger.warning("an adapter of a cancelled job is still published: %s", error)
