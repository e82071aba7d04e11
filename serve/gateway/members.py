"""The members of the group: which models and tasks Serve runs, in what state, and what each can do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import orjson

from serve.cluster import ModelApplication, model_applications
from serve.errors import ModelNotFound, ModelStarting, QueueFull, TaskNotFound, TaskStarting, Unavailable
from serve.gateway.transport.base import MODELS, TASKS, RawHeaders, ReplicaLost, Transport
from serve.residency.ledger import Report
from serve.residency.node import reports_of
from serve.routing.policy import Candidate

logger = logging.getLogger(__name__)

#: Serve's word for an application -> ours for a model.
_STATES = {
    "RUNNING": "ready",
    "DEPLOYING": "starting",
    "NOT_STARTED": "starting",
    "UNHEALTHY": "unhealthy",
    "DEPLOY_FAILED": "failed",
    "DELETING": "deleting",
}
POLL_SECONDS = 0.1
#: How long a model may take to say what it is; one that takes longer holds up no other.
_INFO_SECONDS = 2.0
#: What a model says of itself is asked anew when it is older, and somebody wants to know.
_INFO_AGE = 1.0

#: Asks Serve for its model applications, by id.
Find = Callable[[], Awaitable[dict[str, ModelApplication]]]
#: Asks the ledgers of some nodes what the replicas there hold.
AskLedgers = Callable[[Iterable[str]], Awaitable[list[Report]]]

#: What is likely of a model that has not been in memory since this gateway began, by its handler. Only ``auto`` goes
#: by it, and decides anew once the model has said what it can do.
_LIKELY = {"e5": frozenset({"embeddings"}), "echo": frozenset({"chat"})}
_LIKELY_OTHERWISE = frozenset({"chat", "completion", "structured_output"})


@dataclass(frozen=True, slots=True)
class Member:
    """One model of the group, or a task.

    Attributes:
        application: as Serve sees it.
        info: what the model says of itself (``/info``); none until it has been asked.
        was_ready: whether it has answered since the gateway knows it, so that a restart can be waited for.
        reports: what its replicas told the ledgers of their nodes.
    """

    application: ModelApplication
    info: dict[str, Any] | None = None
    was_ready: bool = False
    reports: tuple[Report, ...] = ()

    @property
    def id(self) -> str:
        """The model's id."""
        return self.application.id

    @property
    def ready(self) -> bool:
        """Whether some replica can answer, whatever else goes on."""
        return self.state == "ready"

    @property
    def rests(self) -> bool:
        """Whether it answers once it has been brought into memory, for which a request may wait."""
        return self.state in ("asleep", "resting", "loading")

    @property
    def replicas(self) -> int:
        """How many replicas can answer."""
        return self.application.running or 0

    @property
    def state(self) -> str:
        """``ready``, ``starting``, ``asleep`` (no replica), ``resting`` (unloaded), ``loading`` (either of them, on
        its way back), ``unhealthy``, ``failed`` or ``deleting``."""
        state = _STATES.get(self.application.status, "starting")
        if self.replicas and self.info and state != "deleting":
            # One that replaces a replica, or could not be changed, still answers with what it has.
            return self._in_memory()
        if state == "ready" and self.application.may_sleep and not self.replicas:
            return "loading" if self.application.wanted else "asleep"
        # Serve counts a replica as running a moment before its proxy knows the way to it.
        return "starting" if state == "ready" else state

    def _in_memory(self) -> str:
        """The state of a model whose replicas run."""
        states = {report.state for report in self.reports}
        if not states or "loaded" in states:
            return "ready"
        return "loading" if states & {"waiting", "loading"} else "resting"

    def can(self, capability: str) -> bool:
        """Whether the model says that it has ``capability``; whether that is likely, while it has said nothing."""
        if self.info is None:
            likely = _LIKELY.get(self.application.handler or "", _LIKELY_OTHERWISE)
            return self.rests and capability in likely
        return bool(self.info["capabilities"].get(capability))


class Members:
    """Keeps the list of members fresh by asking Serve; every answer is taken from memory."""

    def __init__(
        self,
        transport: Transport,
        headers: RawHeaders,
        refresh_seconds: float,
        find: Find = model_applications,
        ask_ledgers: AskLedgers = reports_of,
    ) -> None:
        self._transport = transport
        self._headers = headers
        self._find = find
        self._ask_ledgers = ask_ledgers
        self.refresh_seconds = refresh_seconds
        self._members: dict[str, Member] = {}
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._asked: dict[str, float] = {}

    async def start(self) -> None:
        """Look once, then keep looking."""
        await self.look()
        self._task = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()

    @property
    def alive(self) -> bool:
        """Whether the list is still being kept fresh."""
        return self._task is not None and not self._task.done()

    def all(self) -> list[Member]:
        """Every model, by id."""
        return [one for one in self._by_id() if one.application.task is None]

    def tasks(self) -> list[Member]:
        """Every task, by id."""
        return [one for one in self._by_id() if one.application.task is not None]

    def _by_id(self) -> list[Member]:
        return [self._members[name] for name in sorted(self._members)]

    def get(self, model: str) -> Member:
        """The member called ``model``.

        Raises:
            ModelNotFound: there is none; names those that exist.
        """
        member = self._members.get(model)
        if member is None or member.application.task is not None or member.state == "deleting":
            raise ModelNotFound(model, [one.id for one in self.all() if one.state != "deleting"])
        return member

    @property
    def restarting(self) -> bool:
        """Whether some model was ready and is not now."""
        return any(one.was_ready and one.state in ("starting", "unhealthy") for one in self.all())

    def candidates(self, capability: str, *, resting: bool = False) -> list[Candidate]:
        """The models that can answer now and have ``capability``; with ``resting``, those too that can once they are
        in memory again."""
        return [
            Candidate(one.id, one.can("tools"), one.can("structured_output"), one.can("vision"), _context(one))
            for one in self.all()
            if (one.ready or (resting and one.rests)) and one.can(capability)
        ]

    async def wait_ready(self, model: str, seconds: float) -> Member:
        """The member once it can answer, or could once it is in memory. One that is on its first start is not waited
        for; one that was lost is.

        Raises:
            ModelNotFound, ModelStarting, Unavailable: it cannot answer.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            member = self.get(model)
            if member.ready or member.rests:
                return member
            if member.state == "failed":
                raise Unavailable(
                    f"The model {model!r} could not be started; `serve status` says why.", retry_after=30
                )
            if not member.was_ready or asyncio.get_running_loop().time() >= deadline:
                raise ModelStarting(model)
            await asyncio.sleep(POLL_SECONDS)

    async def wait_task(self, task: str, seconds: float) -> Member:
        """The application of ``task`` once it can answer; waited for as a model is.

        Raises:
            TaskNotFound, TaskStarting, Unavailable: it cannot answer.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            member = next((one for one in self.tasks() if one.application.task == task), None)
            if member is None or member.state == "deleting":
                raise TaskNotFound(task)
            if member.ready:
                return member
            if member.state == "failed":
                raise Unavailable(f"The {task} task could not be started; `serve status` says why.", retry_after=30)
            if not member.was_ready or asyncio.get_running_loop().time() >= deadline:
                raise TaskStarting(task)
            await asyncio.sleep(POLL_SECONDS)

    async def ask_again(self) -> None:
        """Ask every ready member anew what it is, at most once a second: adapters come and go without Serve knowing.
        Asked when somebody wants to know, and not all the time, which would keep models busy."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            due = [one.id for one in self.all() if one.ready and now - self._asked.get(one.id, -1e9) >= _INFO_AGE]
            infos = await asyncio.gather(*map(self._ask_info, due))
            for name, info in zip(due, infos, strict=True):
                self._asked[name] = now
                if info is not None and name in self._members:
                    self._members[name] = replace(self._members[name], info=info)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self.refresh_seconds)
            try:
                await self.look()
            except Exception:
                # Serve's controller may be restarting; the list as it was is the best there is.
                logger.exception("could not ask Serve for its applications")

    async def look(self) -> None:
        """Ask Serve, the ledgers of its nodes, and every model that has changed."""
        found = await self._find()
        told = await self._ask_ledgers(frozenset().union(*(one.nodes for one in found.values())))
        members = {one.id: one for one in await asyncio.gather(*map(self._member, found.values()))}
        for name, member in members.items():
            members[name] = replace(member, reports=tuple(report for report in told if report.model == name))
        for name in sorted(members.keys() - self._members.keys()):
            logger.info("model joined", extra={"model": name})
        for name in sorted(self._members.keys() - members.keys()):
            logger.info("model left", extra={"model": name})
        self._members = members

    async def _member(self, application: ModelApplication) -> Member:
        mount = MODELS if application.task is None else TASKS
        before = self._members.get(application.id)
        if before is None:
            info = await self._ask_info(application.id, mount) if application.running else None
            return Member(application, info, was_ready=info is not None)
        if application.running is None:
            application = replace(application, running=before.application.running)
        info = before.info
        if application.running and (info is None or not _same(before.application, application)):
            info = await self._ask_info(application.id, mount) or info
        return Member(application, info, before.was_ready or bool(application.running and info))

    async def _ask_info(self, model: str, mount: str = MODELS) -> dict[str, Any] | None:
        """What a model says of itself, or none when it cannot say it yet."""
        try:
            async with asyncio.timeout(_INFO_SECONDS):
                answer = await self._transport.ask(model, "GET", "/info", self._headers, b"", mount)
                with closing(answer):
                    body = await answer.body()
        except (ReplicaLost, QueueFull, TimeoutError):
            return None
        if answer.status != 200:
            logger.error("a model does not answer the gateway", extra={"model": model, "status": answer.status})
            return None
        info: dict[str, Any] = orjson.loads(body)
        return info


def _same(before: ModelApplication, now: ModelApplication) -> bool:
    """Whether what the model said of itself still holds."""
    return (before.deployed_at, before.status) == (now.deployed_at, now.status)


def _context(member: Member) -> int | None:
    context = member.info and member.info["capabilities"].get("context")
    return context if isinstance(context, int) else None
