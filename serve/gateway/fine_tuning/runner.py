"""The one who carries fine-tuning jobs out: of all gateway replicas, the one that holds the lease.

Everything it knows is in the database, in the folders of the runs and in Ray, so that another replica, or the next
process, goes on where this one was killed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import ParamSpec, TypeVar

from serve.capacity import Capacity
from serve.cluster import capacity, job_addresses
from serve.errors import GroupQwenError, InvalidRequest
from serve.gateway.fine_tuning.following import Following, message
from serve.gateway.fine_tuning.room import bundles_of, lacks_memory, needs_of
from serve.gateway.fine_tuning.validation import AskCapacity, Validation
from serve.gateway.keeper import Keeper
from serve.gateway.members import Members
from serve.room import has_room
from serve.settings.gateway import FineTuning
from serve.store import FineTuningJob, Store
from serve.store.records import utc_now
from train.jobs import JobsUnreachable, RayJobs, RunFolder, StorageError, clear

LEASE = "fine-tuning"
#: How long a replica that was killed keeps others from going on.
LEASE_SECONDS = 15.0
#: Between two looks at the jobs.
LOOK_SECONDS = 2.0
#: Between two looks for runs that are kept no longer.
SWEEP_SECONDS = 3600.0
_THREADS = 4

#: Under which the sweep is among the steps.
_SWEEP = "sweep"

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Runner:
    """Looks at the jobs again and again, and brings each forward.

    Attributes:
        settings: what may be tuned; replaced when the deployment is reconfigured, and none until it is configured for
            the first time, just after its start.
    """

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        members: Members,
        settings: FineTuning | None = None,
        *,
        ray_jobs: RayJobs | None = None,
        ask_capacity: AskCapacity = capacity,
    ) -> None:
        self.settings = settings
        self._store = store
        self._members = members
        self._ask_capacity = ask_capacity
        self._made = ray_jobs
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobs")
        self._validation = Validation(store, keeper, members, ask_capacity)
        self._following = Following(store, self.ray_jobs, self._threads)
        self._holder = secrets.token_hex(8)
        self._holds = False
        self._due = asyncio.Event()
        self._steps: dict[str, asyncio.Task[None]] = {}
        #: Jobs that were told why they wait: id, when they were queued, and for what.
        self._told: set[tuple[str, datetime | None, str]] = set()
        self._sweep_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop looking; what is under way is left to whoever looks next."""
        tasks = [*self._steps.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._holds:
            try:
                await self._store.leases.give_back(LEASE, self._holder)
            except GroupQwenError:
                pass  # It ends by itself.
        self._threads.shutdown(wait=False)

    def wake(self) -> None:
        """Look now: something has been asked for."""
        self._due.set()

    async def ray_jobs(self) -> RayJobs:
        """Ray's Job API.

        Raises:
            Unavailable: this cluster has none.
        """
        if self._made is None:
            self._made = RayJobs(*await job_addresses())
        return self._made

    async def look(self) -> None:
        """Look once, and begin what is due."""
        if self.settings is not None and time.monotonic() >= self._sweep_at and _SWEEP not in self._steps:
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
            self._begin(_SWEEP, self._sweep(self.settings.keep_days))
        jobs = await self._store.jobs.active()
        if not jobs:
            return
        self._holds = await self._store.leases.take(LEASE, self._holder, LEASE_SECONDS)
        if not self._holds:
            return
        for job in jobs:
            waits = job.status == "queued" or (job.status == "validating_files" and self.settings is None)
            if job.id not in self._steps and not waits:
                self._begin(job.id, self._step(job))
        await self._admit(jobs)

    async def _keep_looking(self) -> None:
        while True:
            self._due.clear()
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  # The next look does it; nothing depends on it.
                logger.warning("the fine-tuning jobs could not be looked at: %s", error)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                pass

    def _begin(self, key: str, step: Coroutine[None, None, None]) -> None:
        task = self._steps[key] = asyncio.create_task(step)
        task.add_done_callback(lambda _: self._steps.pop(key, None))

    async def _sweep(self, days: int) -> None:
        """Remove the folders of runs whose jobs ended longer ago; every gateway does, and it may come twice."""
        jobs = self._store.jobs
        try:
            for run in await jobs.runs_ended_before(utc_now() - timedelta(days=days)):
                try:
                    await self._run(clear, RunFolder.of(run), whole=True)
                except StorageError as error:
                    logger.warning("the folder of an old run could not be removed: %s", error)
                else:
                    await jobs.forget_copies(run)
        except GroupQwenError as error:
            logger.warning("old runs could not be looked for: %s", error)

    async def _step(self, job: FineTuningJob) -> None:
        """Bring one job forward by one step."""
        try:
            if job.status == "validating_files":
                await self._validate(job)
            elif job.status == "running":
                await self._following.go_on(job)
            else:
                await self._following.stop(job)
        except (JobsUnreachable, StorageError, GroupQwenError) as error:
            logger.warning("a fine-tuning job has to wait: %s", error, extra={"job": job.id})
        except Exception:
            logger.exception("a fine-tuning job could not be brought forward", extra={"job": job.id})

    async def _validate(self, job: FineTuningJob) -> None:
        try:
            checked = await self._validation.checked(job, self.settings or FineTuning())
        except InvalidRequest as error:
            await self._run(clear, RunFolder.of(job.run), whole=True)
            found = {"code": error.code, "message": error.message, "param": error.param}
            await self._store.jobs.change(
                job,
                message(error.message, "error"),
                status="failed",
                error=found,
                finished_at=utc_now(),
                copied_bytes=0,
            )
            return
        await self._store.jobs.change(
            job,
            message("Files validated, moving job to queued state"),
            status="queued",
            queued_at=utc_now(),
            plan=checked.plan,
            method=checked.method,
        )
        self.wake()

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def _admit(self, jobs: tuple[FineTuningJob, ...]) -> None:
        """Start the first job of the queue, if its resources are free. Nobody overtakes: large jobs would starve.
        Only those stand aside that models leave no memory for, since no job gives that back."""
        queue = sorted((job for job in jobs if job.status == "queued"), key=_place)
        if not queue:
            return
        capacity = await self._ask_capacity()
        first = await self._first(queue, capacity)
        if first is None:
            return
        waits = self._waits(first, jobs, capacity)
        if waits is not None:
            await self._tell_once(first, *waits)
            return
        attempt = first.attempt + 1
        told = "Fine-tuning job started" if attempt == 1 else f"Fine-tuning job goes on, attempt {attempt}"
        await self._store.jobs.change(
            first, message(told), status="running", attempt=attempt, submitted=False, progress={}
        )
        self.wake()

    async def _first(self, queue: list[FineTuningJob], capacity: Capacity) -> FineTuningJob | None:
        """The first that models leave memory for."""
        for job in queue:
            lacks = lacks_memory(capacity, self._members.all(), job)
            if lacks is None:
                return job
            await self._tell_once(job, lacks, "memory")
        return None

    def _waits(
        self, first: FineTuningJob, jobs: tuple[FineTuningJob, ...], capacity: Capacity
    ) -> tuple[str, str] | None:
        """What to tell of a job that waits for what others will give back, and what of; none where it need not."""
        held = [job for job in jobs if _holds(job)]
        lacks = lacks_memory(capacity, self._members.all(), first, held)
        if lacks is not None:
            return lacks, "memory of jobs"
        starting = [job for job in jobs if job.status == "running" and job.progress.get("state") != "running"]
        promised = [bundle for job in starting for bundle in bundles_of(job)]
        if not has_room(capacity, promised, bundles_of(first)):
            return f"Waiting for {needs_of(first)} to be free", "room"
        return None

    async def _tell_once(self, job: FineTuningJob, text: str, what: str) -> None:
        """Note why a job waits, each reason once for each time that it is queued."""
        reason = job.id, job.queued_at, what
        if reason not in self._told and await self._store.jobs.change(job, message(text)) is not None:
            self._told.add(reason)


def _place(job: FineTuningJob) -> tuple[object, str]:
    return job.queued_at, job.id


def _holds(job: FineTuningJob) -> bool:
    """Whether a job's program runs, or is about to, or may still be ending."""
    return job.status == "running" or (job.wanted == "cancel" and job.attempt > 0)
