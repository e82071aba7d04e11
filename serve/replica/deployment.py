"""The deployment class of a model; ``serve.app.model`` binds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve as ray_serve
from starlette.types import ASGIApp

from serve.adapters.promotions import Promotions
from serve.adapters.registry import Registry
from serve.errors import Unavailable
from serve.handlers.base import handler_class
from serve.logs import configure_logging
from serve.metrics import REPORT_SECONDS
from serve.models import local_path
from serve.replica.adapters import Adapters
from serve.replica.asgi import ReplicaApp
from serve.replica.handle import Piece, RawHeaders, call_app
from serve.replica.metrics import ReplicaMetrics
from serve.replica.scaling import scaling_stats
from serve.replica.variants import Variants
from serve.residency.need import Need, need_of
from serve.residency.node import RayLedgerLine
from serve.residency.resident import Resident
from serve.settings.environment import Environment
from serve.settings.errors import parsed
from serve.settings.model import ModelSettings, ModelUserConfig

logger = logging.getLogger(__name__)


@ray_serve.ingress()
class Model:
    """One replica of one model."""

    async def __init__(self, settings: ModelSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging()
        environment = Environment.read()
        token = environment.require_internal_token()
        self._handler = handler_class(settings.handler)(settings)
        self._resident = Resident(self._handler, RayLedgerLine(), await asyncio.to_thread(_need, settings))
        await self._resident.start()
        self._metrics = ReplicaMetrics(settings.id)
        copies = environment.home / "cache" / "adapters"
        registry = Registry(environment.adapters_dir)
        self._adapters = Adapters(self._handler, registry, copies)
        self._variants = Variants(settings.id, Promotions(registry), self._adapters)
        self._resident.on_load(self._adapters.forget)
        self._app = ReplicaApp(
            self._resident, token, ModelUserConfig(), self._metrics, self._adapters, self._variants
        )
        self._reports = asyncio.create_task(self._report())
        self._adapters.start()
        self._variants.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The app that Serve mounts at this model's route."""
        return self._app.asgi

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new behaviour; requests under way keep what they began with.

        Raises:
            SettingsError: the user_config has faults; the old one stays.
        """
        self._app.behaviour = parsed(ModelUserConfig, user_config or {}, "user_config")
        self._adapters.configure(self._app.behaviour)
        self._variants.configure(self._app.behaviour)
        logger.info("model reconfigured", extra={"model": self._handler.settings.id})

    async def check_health(self) -> None:
        """Raise when this replica must be replaced."""
        if self._reports.done():
            raise Unavailable("The replica's reports have stopped.")
        self._resident.check()
        if not self._adapters.alive:
            raise Unavailable("The replica's adapters are no longer kept.")
        if not self._variants.alive:
            raise Unavailable("The replica no longer looks which adapter is promoted.")
        await self._handler.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve hands to an autoscaling policy; ``serve.replica.scaling.EngineLoad`` reads it."""
        return scaling_stats(self._handler.load_now())

    async def ask(self, method: str, path: str, headers: RawHeaders, body: bytes) -> AsyncGenerator[Piece, None]:
        """Answer a request that came through a handle instead of HTTP."""
        async for piece in call_app(self._app.asgi, method, path, headers, body):
            yield piece

    async def _report(self) -> None:
        while True:
            self._metrics.report(self._handler.load_now())
            await asyncio.sleep(REPORT_SECONDS)

    async def __del__(self) -> None:
        if hasattr(self, "_reports"):
            self._reports.cancel()
        if hasattr(self, "_variants"):
            await self._variants.close()
        if hasattr(self, "_adapters"):
            await self._adapters.close()
        if hasattr(self, "_resident"):
            await self._resident.close()


def _need(settings: ModelSettings) -> Need:
    """What the model will take of memory; its file is fetched first, because it says so."""
    return need_of(settings, local_path(settings.id, settings.weights) if settings.weights else None)
