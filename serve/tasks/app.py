"""The ASGI app of one task replica. Like a model's, it answers the gateway only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.protocol.http import Errors, Routes, read_body, send_json
from serve.replica.asgi import MAX_BODY_BYTES, Guarded, Signed
from serve.tasks.base import Endpoint, TaskHandler
from serve.tasks.metrics import TaskMetrics


class TaskApp:
    """What a task answers, behind the internal token."""

    def __init__(self, handler: TaskHandler, token: str, metrics: TaskMetrics) -> None:
        self._handler = handler
        routes = [
            Route(one.path, _Counted(one.endpoint, one.path, metrics), methods=[one.method])
            for one in handler.routes()
        ]
        routes.append(Route("/info", _Informing(self.info), methods=["GET"]))
        self.asgi: ASGIApp = Signed(Errors(Guarded(Routes(routes), token)), handler.settings.id)

    def info(self) -> dict[str, Any]:
        """What this replica is, as plain data."""
        settings = self._handler.settings
        return {"id": settings.id, "task": settings.task, "capabilities": {}}


class _Informing:
    """``GET /info``."""

    def __init__(self, info: Callable[[], dict[str, Any]]) -> None:
        self._info = info

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, self._info())


class _Counted:
    """An endpoint that gets the request's body, counted and timed."""

    def __init__(self, endpoint: Endpoint, path: str, metrics: TaskMetrics) -> None:
        self._endpoint = endpoint
        self._path = path
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, MAX_BODY_BYTES) if scope["method"] != "GET" else b""
        with self._metrics.request(self._path):
            await self._endpoint(scope, body, send)
