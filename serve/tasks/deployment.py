"""The deployment class of a task; ``serve.app.task`` binds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve as ray_serve
from starlette.types import ASGIApp

from serve.cluster import http_address, own_host
from serve.errors import Unavailable
from serve.logs import configure_logging
from serve.replica.handle import Piece, RawHeaders, call_app
from serve.settings.environment import Environment
from serve.settings.errors import parsed
from serve.settings.task import TASKS, TaskSettings
from serve.tasks.app import TaskApp
from serve.tasks.base import task_class
from serve.tasks.client import GroupClient
from serve.tasks.metrics import TaskMetrics

logger = logging.getLogger(__name__)


@ray_serve.ingress()
class Task:
    """One replica of one task."""

    async def __init__(self, settings: TaskSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging()
        token = Environment.read().require_internal_token()
        host, port = await http_address()
        reached = own_host(host)
        self._group = GroupClient(f"http://{f'[{reached}]' if ':' in reached else reached}:{port}", token)
        self._kind = TASKS[settings.task]
        self._handler = task_class(settings.task)(settings, self._group, self._kind.user_config())
        await self._handler.load()
        metrics = TaskMetrics(settings.task)
        self._app = TaskApp(self._handler, token, metrics)
        self._reports = asyncio.create_task(metrics.keep_reporting())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The app that Serve mounts at this task's route."""
        return self._app.asgi

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new behaviour; requests under way keep what they began with.

        Raises:
            SettingsError: the user_config has faults; the old one stays.
        """
        self._handler.behaviour = parsed(self._kind.user_config, user_config or {}, "user_config")
        logger.info("task reconfigured", extra={"task": self._handler.settings.id})

    async def check_health(self) -> None:
        """Raise when this replica must be replaced."""
        if self._reports.done():
            raise Unavailable("The replica's reports have stopped.")

    async def ask(self, method: str, path: str, headers: RawHeaders, body: bytes) -> AsyncGenerator[Piece, None]:
        """Answer a request that came through a handle instead of HTTP."""
        async for piece in call_app(self._app.asgi, method, path, headers, body):
            yield piece

    async def __del__(self) -> None:
        if hasattr(self, "_reports"):
            self._reports.cancel()
        if hasattr(self, "_group"):
            await self._group.close()
