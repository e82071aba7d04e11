"""The deployment class of the gateway; ``serve.app.gateway`` binds it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray import serve as ray_serve
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve.adapters.promotions import Promotions
from serve.adapters.registry import Registry
from serve.cluster import Waker, http_address, own_host, replica_log
from serve.errors import Unavailable
from serve.gateway.access import Access, is_loopback
from serve.gateway.conversations import Conversations
from serve.gateway.edge import Edge
from serve.gateway.feedback_watch import FeedbackWatch
from serve.gateway.files import Files
from serve.gateway.fine_tuning import FineTuningJobs, Runner
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
from serve.gateway.transport.handle import HandleTransport
from serve.gateway.transport.http import HttpTransport
from serve.gateway.usage import UsageLedger
from serve.gateway.waking import Waking
from serve.logs import configure_logging, log_access_to
from serve.replica.asgi import TOKEN_HEADER
from serve.routing.policy import Policy
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError, parsed
from serve.settings.gateway import GatewaySettings, GatewayUserConfig
from serve.store import Store
from serve.store.contents import Contents

#: Headers of an answer that a page of an allowed origin may read.
EXPOSED = ("x-request-id", "x-groupqwen-model", "x-groupqwen-route", "retry-after")

logger = logging.getLogger(__name__)


@ray_serve.ingress()
class Gateway:
    """One replica of the gateway."""

    async def __init__(self, settings: GatewaySettings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging(settings.log_level)
        if settings.access_log:
            log_access_to(replica_log("access"))
        environment = Environment.read()
        token = environment.require_internal_token()
        behaviour = GatewayUserConfig()
        host, port = await http_address()
        self._store = Store(environment.database_url)
        await self._store.open()
        key_required = not is_loopback(host)
        if key_required and not await self._store.keys.count():
            raise SettingsError(
                f"http_options.host is {host}, which others can reach, and no API key exists; make one with"
                " `python -m serve.keys create NAME`, or set the host to 127.0.0.1"
            )
        self._keeper = Keeper(self._store, Contents(environment.files_dir))
        self._files = Files(self._store, self._keeper, behaviour.files)
        self._metrics = GatewayMetrics()
        self._reports = asyncio.create_task(self._metrics.keep_reporting())
        self._usage = UsageLedger(self._store)
        self._transport: HttpTransport | HandleTransport
        if settings.transport == "http" or (settings.transport == "auto" and environment.haproxy):
            self._transport = HttpTransport(own_host(host), port, behaviour.limits, behaviour.timeouts)
        else:
            self._transport = HandleTransport(behaviour.timeouts)
        internal = [(TOKEN_HEADER, token.encode())]
        self._members = Members(self._transport, internal, behaviour.timeouts.models_refresh)
        rate_limits = RateLimits()
        self._runner = Runner(self._store, self._keeper, self._members)
        self._fine_tuning = FineTuningJobs(self._store, self._members, self._runner, environment.runs)
        self._waking = Waking(self._members, self._transport, internal, Waker().wake)
        self._feedback_watch = FeedbackWatch(self._store, Promotions(Registry(environment.adapters_dir)))
        self._tasks = Tasks(
            self._members, self._transport, internal, self._usage, rate_limits, behaviour.limits, behaviour.timeouts
        )
        self._inference = Inference(
            self._members,
            self._transport,
            internal,
            self._store,
            self._usage,
            rate_limits,
            self._metrics,
            self._waking,
            self._feedback_watch,
            self._tasks,
            Behaviour(Policy(behaviour.routing), behaviour.limits, behaviour.timeouts, behaviour.wake),
        )
        self._app = self._build(settings, rate_limits, token, key_required=key_required)
        await self._members.start()
        self._keeper.start()
        self._runner.start()
        self._feedback_watch.start()
        logger.info(
            "gateway started", extra={"host": host, "port": port, "transport": type(self._transport).__name__}
        )

    def _build(
        self, settings: GatewaySettings, rate_limits: RateLimits, token: str, *, key_required: bool
    ) -> ASGIApp:
        parts = Parts(
            self._inference,
            Models(self._members),
            Conversations(self._store),
            self._files,
            self._fine_tuning,
            self._tasks,
            Health(self._members, self._store, self._metrics),
            Reference(),
        )
        access = Access(
            router(parts),
            self._store,
            rate_limits,
            token,
            key_required=key_required,
            allowed_origins=settings.allowed_origins,
        )
        origins = settings.allowed_origins
        app = CORSMiddleware(access, origins, ["*"], ["*"], expose_headers=EXPOSED) if origins else access
        return Edge(app, self._metrics, access_log=settings.access_log)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The app that Serve mounts at ``/``."""
        return self._app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new routing rules, limits and timeouts; requests under way keep what they began with.

        Raises:
            SettingsError: the user_config has faults; the old one stays.
        """
        wanted = parsed(GatewayUserConfig, user_config or {}, "user_config")
        self._inference.behaviour = Behaviour(Policy(wanted.routing), wanted.limits, wanted.timeouts, wanted.wake)
        self._files.limits = wanted.files
        self._runner.settings = wanted.fine_tuning
        self._tasks.limits, self._tasks.timeouts = wanted.limits, wanted.timeouts
        self._members.refresh_seconds = wanted.timeouts.models_refresh
        self._transport.timeouts = wanted.timeouts
        if isinstance(self._transport, HttpTransport):
            self._transport.limits = wanted.limits
        logger.info("gateway reconfigured", extra={"rules": len(wanted.routing.rules)})

    async def check_health(self) -> None:
        """Raise when this replica must be replaced."""
        if not self._members.alive:
            raise Unavailable("The list of models is no longer kept fresh.")
        if self._reports.done():
            raise Unavailable("The gateway's metrics are no longer reported.")
        if not self._feedback_watch.alive:
            raise Unavailable("The gateway no longer watches the feedback on adapters.")

    async def __del__(self) -> None:
        if hasattr(self, "_members"):
            self._waking.close()
            self._reports.cancel()
            self._files.close()
            await self._runner.close()
            await self._feedback_watch.close()
            await self._keeper.close()
            await self._members.close()
            await self._transport.close()
            await self._usage.close()
            await self._store.close()
