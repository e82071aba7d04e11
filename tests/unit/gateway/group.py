"""A whole gateway in this process, over real replica apps and a real store; only Serve is left out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.cluster import ModelApplication
from serve.gateway.access import Access
from serve.gateway.conversations import Conversations
from serve.gateway.edge import Edge
from serve.gateway.files import Files
from serve.gateway.health import Health
from serve.gateway.inference import Behaviour, Inference
from serve.gateway.keeper import Keeper
from serve.gateway.limits import RateLimits
from serve.gateway.members import Members
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.models import Models
from serve.gateway.reference import Reference
from serve.gateway.routes import Parts, router
from serve.gateway.tasks import Tasks
from serve.gateway.transport.base import MODELS, Answer, RawHeaders, ReplicaLost, Transport
from serve.gateway.usage import UsageLedger
from serve.gateway.waking import Waking
from serve.handlers.base import Handler
from serve.replica.asgi import TOKEN_HEADER
from serve.replica.handle import call_app
from serve.residency.ledger import Report
from serve.routing.policy import Policy
from serve.settings.gateway import GatewayUserConfig
from serve.store import Store
from serve.store.contents import Contents
from tests.unit.replica.models import TOKEN, replica

Json = dict[str, Any]
CHAT = "/v1/chat/completions"


class InProcess(Transport):
    """Asks replica apps of this process.

    Attributes:
        apps: the replica of each model; a test may put anything in its place.
        failures: raised by the next requests to a model, one each.
        cuts: after how many pieces the next answers break off, one each.
        asked: the model, path and headers of every request but those for information.
        answers: every answer that was begun.
    """

    def __init__(self, apps: dict[str, ASGIApp]) -> None:
        self.apps = apps
        self.failures: list[Exception] = []
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str, RawHeaders]] = []
        self.answers: list[InProcessAnswer] = []

    async def ask(
        self, model: str, method: str, path: str, headers: RawHeaders, body: bytes, mount: str = MODELS
    ) -> Answer:
        if path != "/info":
            self.asked.append((model, path, headers))
            if self.failures:
                raise self.failures.pop(0)
        answer = InProcessAnswer(call_app(self.apps[model], method, path, headers, body))
        answer.cut = self.cuts.pop(0) if self.cuts and path != "/info" else None
        self.answers.append(answer)
        await answer.begin()
        return answer

    async def close(self) -> None:
        """Nothing is kept."""


class InProcessAnswer(Answer):
    """An answer of an app of this process.

    Attributes:
        cut: after how many pieces it breaks off.
        closed: whether the gateway is done with it.
    """

    cut: int | None = None
    closed = False

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces
        self._closing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Wait for the head."""
        _, self.status, self.headers = await anext(self._pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        taken = 0
        while True:
            if taken == self.cut:
                raise ReplicaLost("killed", begun=True)
            try:
                _, part = await anext(self._pieces)
            except StopAsyncIteration:
                return
            taken += 1
            yield part

    def close(self) -> None:
        self.closed = True
        self._closing = asyncio.ensure_future(self._pieces.aclose())


@dataclass
class Sleep:
    """Serve and the ledgers, as far as models that are not in memory go.

    Attributes:
        reports: what the ledgers say.
        woken: the models that were woken.
        wakes: held back while this is not set.
        failure: raised in place of waking.
    """

    applications: dict[str, ModelApplication]
    reports: list[Report] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    wakes: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None

    async def wake(self, model: str, method: str, path: str, headers: RawHeaders) -> None:
        """Start a replica."""
        self.woken.append(model)
        self.applications[model] = replace(self.applications[model], wanted=1)
        await self.wakes.wait()
        if self.failure:
            raise self.failure
        self.applications[model] = replace(self.applications[model], running=1, wanted=1)

    async def ask_ledgers(self, nodes: Iterable[str]) -> list[Report]:
        """What the ledgers say."""
        return self.reports


@dataclass
class Group:
    """The parts of a running gateway that tests look at or turn."""

    app: ASGIApp
    access: Access
    transport: InProcess
    members: Members
    store: Store
    files: Files
    keeper: Keeper
    inference: Inference
    tasks: Tasks
    usage: UsageLedger
    metrics: GatewayMetrics
    waking: Waking
    applications: dict[str, ModelApplication]
    sleep: Sleep

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A client on this machine."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://localhost", headers=headers
        )

    def configure(self, **user_config: Any) -> None:
        """Take new behaviour, as a deployment does."""
        wanted = GatewayUserConfig.model_validate(user_config)
        self.files.limits = wanted.files
        self.tasks.limits, self.tasks.timeouts = wanted.limits, wanted.timeouts
        self.inference.behaviour = Behaviour(Policy(wanted.routing), wanted.limits, wanted.timeouts, wanted.wake)

    async def refresh(self, **applications: ModelApplication | None) -> None:
        """Let Serve say something else of some applications, and wait until the gateway knows."""
        for name, application in applications.items():
            if application is None:
                self.applications.pop(name)
            else:
                self.applications[name] = application
        await self.members.look()


def running(
    id: str, *, status: str = "RUNNING", replicas: int | None = 1, deployed_at: float = 1.0, **more: Any
) -> ModelApplication:
    """What Serve says of a model that runs."""
    return ModelApplication(id, status, "", deployed_at, replicas, **more)


def asleep(id: str, **more: Any) -> ModelApplication:
    """What Serve says of a model that has no replica because nobody asks."""
    return running(id, replicas=0, wanted=0, may_sleep=True, **more)


@asynccontextmanager
async def group(
    folder: Path,
    *handlers: Handler,
    key_required: bool = False,
    allowed_origins: tuple[str, ...] = (),
    access_log: bool = True,
    **user_config: Any,
) -> AsyncIterator[Group]:
    """A gateway over one replica of each handler, put together as ``serve.gateway.deployment`` does it."""
    store = await opened(folder)
    transport = InProcess({handler.settings.id: replica(handler).asgi for handler in handlers})
    applications = {name: running(name) for name in transport.apps}

    async def find() -> dict[str, ModelApplication]:
        return dict(applications)

    internal = [(TOKEN_HEADER, TOKEN.encode())]
    behaviour = GatewayUserConfig.model_validate(user_config)
    sleep = Sleep(applications)
    members = Members(transport, internal, 60.0, find, sleep.ask_ledgers)
    waking = Waking(members, transport, internal, sleep.wake)
    usage, limits, metrics = UsageLedger(store), RateLimits(), GatewayMetrics()
    tasks = Tasks(members, transport, internal, usage, limits, behaviour.limits, behaviour.timeouts)
    inference = Inference(
        members,
        transport,
        internal,
        store,
        usage,
        limits,
        metrics,
        waking,
        tasks,
        Behaviour(Policy(behaviour.routing), behaviour.limits, behaviour.timeouts, behaviour.wake),
    )
    keeper = Keeper(store, Contents(folder / "files"))
    files = Files(store, keeper, behaviour.files)
    health = Health(members, store, metrics)
    parts = Parts(inference, Models(members), Conversations(store), files, tasks, health, _reference())
    access = Access(
        router(parts), store, limits, TOKEN, key_required=key_required, allowed_origins=list(allowed_origins)
    )
    app = Edge(access, metrics, access_log=access_log)
    await members.start()
    try:
        yield Group(
            app,
            access,
            transport,
            members,
            store,
            files,
            keeper,
            inference,
            tasks,
            usage,
            metrics,
            waking,
            applications,
            sleep,
        )
    finally:
        files.close()
        await keeper.close()
        await members.close()
        await usage.close()
        await store.close()


async def opened(folder: Path) -> Store:
    """A store of its own in ``folder``; the schema is copied, since to make it takes long."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(await asyncio.to_thread(_empty_database), folder / "store.db")
    store = Store(f"sqlite:///{folder / 'store.db'}")
    await store.open()
    return store


@cache
def _reference() -> Reference:
    """Made once: it is the same for every gateway, and takes long."""
    return Reference()


_FOLDER = TemporaryDirectory(prefix="groupqwen-test-")


@cache
def _empty_database() -> Path:
    """A database with the schema and nothing in it; made once."""
    path = Path(_FOLDER.name) / "empty.db"

    async def make() -> None:
        async with Store(f"sqlite:///{path}"):
            pass

    asyncio.run(make())
    return path


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """A real HTTP server of ``app`` on a free port; yields its host and port."""
    server = uvicorn.Server(
        uvicorn.Config(_as_serve(app), port=0, lifespan="off", log_config=None, ws_ping_interval=None)
    )
    serving = asyncio.create_task(server.serve())
    await settled(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await serving


def _as_serve(app: ASGIApp) -> ASGIApp:
    """``app`` as a replica of Serve runs it: cancelled when its client leaves."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        messages: asyncio.Queue[Message] = asyncio.Queue()

        async def fetch() -> None:
            while True:
                message = await receive()
                messages.put_nowait(message)
                if message["type"].endswith(".disconnect"):
                    return

        tasks = [asyncio.create_task(fetch()), asyncio.ensure_future(app(scope, messages.get, send))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return run


async def settled(done: Callable[[], object]) -> None:
    """Let the event loop run until ``done()``."""
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.001)
