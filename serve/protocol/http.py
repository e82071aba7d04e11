"""Requests and answers as plain ASGI: bodies with a limit, JSON, and every error as OpenAI's error object."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Iterable

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import GroupQwenError, InternalError, MethodNotAllowed, NotFound, PayloadTooLarge

RawHeaders = list[tuple[bytes, bytes]]

#: The head of every stream of events.
STREAM_HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
#: Carries an error's code, so that whoever passes an answer on need not read its body.
ERROR_HEADER = b"x-groupqwen-error"

logger = logging.getLogger(__name__)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of the request header ``name`` (lower case), or none."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole request body.

    Raises:
        PayloadTooLarge: it has more than ``limit`` bytes; said before it is read where its length is declared.
        ClientDisconnect: the client left.
    """
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise PayloadTooLarge(f"The body has {int(declared)} bytes; the most allowed is {limit}.")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise PayloadTooLarge(f"The body has more than {limit} bytes, the most allowed.")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_bytes(
    send: Send, body: bytes, *, content_type: bytes, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send one whole answer."""
    raw = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def send_json(
    send: Send, data: object, *, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send ``data`` as JSON."""
    body = orjson.dumps(data)
    await send_bytes(send, body, content_type=b"application/json", status=status, headers=headers)


async def send_error(send: Send, error: GroupQwenError) -> None:
    """Send ``error`` as OpenAI's error object, with Retry-After where trying again makes sense."""
    headers: RawHeaders = [(ERROR_HEADER, error.code.encode())] if error.code else []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after)).encode()))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    await send_json(send, error.body(), status=error.status, headers=headers)


def as_error(error: Exception) -> GroupQwenError:
    """The error that a client may see for ``error``; what is not ours becomes ``InternalError`` with no details."""
    if isinstance(error, GroupQwenError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound("There is nothing at this address; GET /openapi.json lists what there is.")
    return InternalError("The server failed to answer; its log says why, under this answer's x-request-id.")


class Routes(Router):
    """A router that raises for an unknown address or method instead of answering in plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the endpoint and run it."""
        # Starlette's routes raise only below an application.
        scope["app"] = self
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            if error.status_code == 405:
                raise MethodNotAllowed(self._methods(scope)) from error
            raise

    def _methods(self, scope: Scope) -> str:
        """What the address takes; Starlette's own error knows the methods of one of its routes only."""
        here = (
            route for route in self.routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
        )
        return ", ".join(sorted({method for route in here for method in route.methods or ()}))


class Errors:
    """Middleware that turns what is raised into an answer, and a failure after the first byte into a cut connection.

    A stream that has begun ends its own errors with an error frame (see ``serve.replica.answers``); what still
    reaches this place after the first byte cannot be told to the client in any other way than by breaking off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app and answer for what it raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal begun
            begun = True  # A head comes before anything else.
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as raised:
            error = as_error(raised)
            if isinstance(error, InternalError):
                logger.exception("request failed", extra={"path": scope["path"]})
            if begun:
                raise
            await send_error(send, error)
