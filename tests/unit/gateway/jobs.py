"""Fine-tuning jobs on a gateway of this process, over a Ray that is only a table of jobs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve.capacity import Capacity, Node, Resources
from serve.gateway.fine_tuning import Runner
from serve.store import FileRoom, FineTuningJob, JobEvent, StoredFile
from serve.store.records import utc_now
from tests.unit.gateway.group import Group, group
from tests.unit.gateway.uploads import CHAT, folder
from tests.unit.replica.models import echo
from train.events import EventLog, State
from train.jobs import JobsUnreachable, Look, RayJobs, RunFolder

JOBS = "/v1/fine_tuning/jobs"
MODEL = "echo"
PAIR = {
    "input": {"messages": CHAT["messages"][:1]},
    "preferred_output": [{"role": "assistant", "content": "Sunny."}],
    "non_preferred_output": [{"role": "assistant", "content": "No."}],
}


class TableOfJobs(RayJobs):
    """Ray's Job API as far as a gateway can tell.

    Attributes:
        looks: what Ray says of each job. commands: what each was started with.
        down: whether it does not answer.
    """

    def __init__(self) -> None:
        super().__init__("http://nowhere", "127.0.0.1:6379")
        self.looks: dict[str, Look] = {}
        self.commands: dict[str, list[str]] = {}
        self.printed = "Traceback\nerror: the disk is full\n"
        self.down = False

    def submit(self, name: str, command: Sequence[str]) -> None:
        self._answer()
        assert name not in self.looks
        self.commands[name] = list(command)
        self.looks[name] = Look("running")

    def look(self, name: str) -> Look | None:
        self._answer()
        return self.looks.get(name)

    def stop(self, name: str) -> None:
        self._answer()
        self.looks[name] = Look("stopped")

    def log(self, name: str) -> str:
        self._answer()
        return self.printed if name in self.looks else ""

    def _answer(self) -> None:
        if self.down:
            raise JobsUnreachable("connection refused")


class Cluster:
    """A cluster of one node.

    Attributes:
        free: what is free of it. minimum, missing: what serving must have, and lacks of it.
    """

    def __init__(self, cpus: float = 4, memory: float = 64e9) -> None:
        self.total: Resources = {"CPU": cpus, "memory": memory}
        self.free: Resources = dict(self.total)
        self.minimum: list[Resources] = []
        self.missing: list[Resources] = []

    async def capacity(self) -> Capacity:
        return Capacity((Node("n", self.total, self.free),), tuple(self.minimum), tuple(self.missing))


class Bench:
    """A gateway with a model that can be tuned, and all that a job meets.

    Attributes:
        settings: of fine-tuning.
    """

    def __init__(
        self, one: Group, ray: TableOfJobs, cluster: Cluster, recipe: Path, settings: dict[str, Any]
    ) -> None:
        self.group = one
        self.settings = settings
        self.ray = ray
        self.cluster = cluster
        self.recipe = recipe

    async def call(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        async with self.group.client() as client:
            return await client.request(method, JOBS + path, **options)

    async def file(self, example: Any = CHAT, lines: int = 3, tenant: str = "local", **fields: Any) -> str:
        """A file that was uploaded; what validating it found is put in by hand, since that takes a second."""
        content = (json.dumps(example) + "\n").encode() * lines
        id = f"file-{secrets.token_hex(4)}"
        counts = {"examples": lines, "preferences": 0 if "messages" in example else lines, "longest": 100}
        known = {"created_at": utc_now(), "filename": "a.jsonl", "purpose": "fine-tune", "validation": counts}
        size = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        stored = StoredFile(id, tenant, **{**known, **size, **fields})
        await self.group.store.files.add(stored, FileRoom(10**6, 10**12))
        folder(self.group).mkdir(exist_ok=True)
        (folder(self.group) / id).write_bytes(content)
        return id

    async def create(self, **body: Any) -> Any:
        """A new job; ``training_file`` is made where it is not given."""
        options = {"headers": body.pop("headers", {})}
        body = {"model": MODEL, "training_file": body.pop("training_file", None) or await self.file(), **body}
        answer = await self.call("POST", json=body, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def job(self, id: str) -> FineTuningJob:
        return await self.group.store.jobs.get(id, "local")

    async def look(self) -> None:
        """Let the runner look once, and wait for all that it begins."""
        await self.look_with(self.group.runner)

    async def look_with(self, runner: Runner) -> None:
        await runner.look()
        while steps := list(runner._steps.values()):
            for step in steps:
                await step
            await asyncio.sleep(0)  # What forgets the steps runs when they have ended.

    async def queued(self, **values: Any) -> FineTuningJob:
        """A job that was validated, put into the store by hand."""
        made = await self.create()
        job = await self.job(made["id"])
        plan = {"workers": 1, "cpus": 1.0, "gpus": 0, "bytes": None}
        fields = {"status": "queued", "queued_at": utc_now(), "plan": plan, **values}
        changed = await self.group.store.jobs.change(job, **fields)
        assert changed is not None
        return changed

    async def running(self, **values: Any) -> FineTuningJob:
        """A job that Ray runs, and whose run says so."""
        job = await self.queued(**values)
        await self.look()
        await self.look()
        self.log(job).state("running", "The workers are there")
        await self.look()
        return await self.job(job.id)

    async def ended(self, job: FineTuningJob, look: Look, *states: State) -> FineTuningJob:
        """The job after its program has ended like this, with its run having said this before."""
        log = self.log(job)
        for state in states:
            log.state(state, f"it is {state}", {"code": "X"} if state == "failed" else None)
        if "succeeded" in states:
            RunFolder.of(job.run).write_json("result.json", {"state": "succeeded", "trained_tokens": 1234})
        self.ray.looks[job.submission] = look
        await self.look()
        return await self.job(job.id)

    def log(self, job: FineTuningJob) -> EventLog:
        folder = RunFolder.of(job.run)
        folder.make()
        return EventLog(folder)

    async def told(self, job: FineTuningJob) -> list[JobEvent]:
        """What happened to a job, oldest first."""
        return list((await self.group.store.jobs.events(job.id, "local", limit=100)).items)[::-1]


@asynccontextmanager
async def bench(place: Path, recipe: dict[str, Any] | None = None, **user_config: Any) -> AsyncIterator[Bench]:
    """A gateway whose model ``echo`` is tuned by a recipe, and by another one for pairs."""
    place.mkdir(exist_ok=True)
    path = place / "recipe.yaml"
    base = {"model": {"id": MODEL, "base": "base"}, "data": {"train": ["unused.jsonl"]}, **(recipe or {})}
    path.write_text(yaml.safe_dump(base))
    pairs = place / "recipe-dpo.yaml"
    pairs.write_text(yaml.safe_dump({**base, "objective": "dpo", "schedule": {"learning_rate": 5e-5}}))
    ray, cluster = TableOfJobs(), Cluster()
    recipes = {MODEL: {"supervised": str(path), "dpo": str(pairs)}}
    settings = {"recipes": recipes, **user_config.pop("fine_tuning", {})}
    async with group(
        place, echo(MODEL), ray_jobs=ray, ask_capacity=cluster.capacity, fine_tuning=settings, **user_config
    ) as one:
        yield Bench(one, ray, cluster, path, settings)
