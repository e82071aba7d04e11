"""Stands before a replica's endpoints: keeps the model in memory while one runs, and loads it when it is asked to.

The gateway asks for a load, because it is there that requests wait: they are bounded and heard of in one place.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import Unavailable
from serve.residency.resident import DoesNotFit, Resident

LOAD_PATH = "/load"
_INFERENCE = "/v1/"

logger = logging.getLogger(__name__)


class Residence:
    """ASGI middleware around the endpoints of one model."""

    def __init__(self, app: ASGIApp, resident: Resident) -> None:
        self._app = app
        self._resident = resident

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Raises:
            ModelResting: its model is not in memory.
        """
        if scope["type"] != "http" or not _route(scope).startswith(_INFERENCE):
            await self._app(scope, receive, send)
            return
        with self._resident.in_use():
            await self._app(scope, receive, send)


def _route(scope: Scope) -> str:
    """The path below the place where the app is mounted, which ASGI leaves in the path."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def load(resident: Resident) -> None:
    """Bring the model into memory.

    Raises:
        Unavailable: it cannot be; the log says why.
    """
    name = resident.handler.settings.id
    try:
        await resident.load()
    except DoesNotFit as short:
        logger.error("a model does not fit", extra={"model": name, "reason": str(short)})
        raise Unavailable(f"There is no room for the model {name!r}.", code="does_not_fit", retry_after=30) from short
    except Exception as failure:
        logger.exception("a model could not be loaded", extra={"model": name})
        raise Unavailable(f"The model {name!r} could not be loaded.", code="load_failed", retry_after=30) from failure
