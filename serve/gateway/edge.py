"""The outermost layer: an id for every request, one log line, metrics, and every error as OpenAI's error object."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import GroupQwenError, InternalError
from serve.gateway.metrics import GatewayMetrics
from serve.logs import ACCESS, request_id
from serve.protocol.http import as_error, header, send_error

REQUEST_ID = b"x-request-id"
#: Ids that clients bring are kept when they are harmless in logs and headers.
_HARMLESS = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

#: The HTTP status that a server makes of a socket's first message.
_SOCKET_STATUS = {"websocket.accept": 101, "websocket.close": 403}

logger = logging.getLogger(ACCESS)


class Edge:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics, *, access_log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app and answer for what it raises."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        brought = header(scope, REQUEST_ID)
        current = brought if brought and _HARMLESS.fullmatch(brought) else f"req_{uuid.uuid4().hex}".encode()
        context = request_id.set(current.decode())
        scope.setdefault("state", {})["request_id"] = current
        begun = time.perf_counter()
        status = 0

        def tagged(message: Message) -> Awaitable[None]:
            nonlocal status
            if not status:
                kind = message["type"]
                status = message.get("status", _SOCKET_STATUS.get(kind, 0))
                # Serve answers with the id that it found in the request, or put there.
                if brought is None and kind.endswith("http.response.start"):
                    message["headers"] = [*message["headers"], (REQUEST_ID, current)]
            return send(message)

        try:
            await self._app(scope, receive, tagged)
        except ClientDisconnect:
            status = status or 499
        except asyncio.CancelledError:
            status = 499
            raise
        except Exception as raised:
            error = as_error(raised)
            if isinstance(error, InternalError):
                logger.exception("request failed")
            if status:
                raise
            await _refuse(scope, tagged, error)
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.finished(scope, status, seconds)
            if self._access_log:
                self._log(scope, status, seconds)
            request_id.reset(context)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        logger.info(
            "request",
            extra={
                "method": scope.get("method", "WEBSOCKET"),
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 1),
                **{name: state[name] for name in ("model", "route", "key_id") if state.get(name)},
            },
        )


async def _refuse(scope: Scope, send: Send, error: GroupQwenError) -> None:
    """Answer with ``error``; a socket that is not open yet gets it as an HTTP answer where the server can do that."""

    async def handshake(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    if scope["type"] == "http":
        await send_error(send, error)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await send_error(handshake, error)
    else:
        await send({"type": "websocket.close", "code": 1008})
