"""``WS /v1/chat/stream``: many chat requests at once on one socket, each with an id that the client chose.

The client sends ``{"type": "chat", "id": "a", "request": {...}}`` with the body of a chat completion, and
``{"type": "cancel", "id": "a"}``. For each request the server sends ``{"type": "chunk", "id": "a", "data": {...}}``
with the chunks of a streamed completion, usage last, ``{"type": "waiting", "model": ...}`` now and then while the
model is brought into memory, and then exactly one of ``{"type": "done"}``,
``{"type": "cancelled"}`` and ``{"type": "error", "error": {...}}``, each with the id. A message that cannot be
read is answered by an error whose id is null, and the socket stays open.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from serve.errors import GroupQwenError, InvalidRequest, RateLimited
from serve.gateway.caller import admit, caller_of
from serve.gateway.inference import CHAT, Inference
from serve.protocol.http import as_error
from serve.protocol.sse import FrameReader
from serve.protocol.validation import parse_json

logger = logging.getLogger(__name__)


class ChatSocket:
    """The endpoint of ``/v1/chat/stream``."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket until the client leaves; what still runs then is cancelled."""
        socket = WebSocket(scope, receive, send)
        caller_of(scope).require("inference")
        await socket.accept()
        session = _Session(socket, scope, self._inference)
        try:
            while True:
                await session.take(await socket.receive())
        except WebSocketDisconnect:
            return
        finally:
            await session.close()


@dataclass
class _Session:
    """One socket and the requests that run on it."""

    socket: WebSocket
    scope: Scope
    inference: Inference
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def take(self, message: Message) -> None:
        """Carry out one message of the client."""
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        request_id: str | None = None
        try:
            text = message.get("text")
            body = text.encode() if text is not None else message.get("bytes") or b""
            limit = self.inference.behaviour.limits.body_bytes
            if len(body) > limit:
                raise InvalidRequest(f"The message has {len(body)} bytes; the most allowed is {limit}.")
            asked = parse_json(body)
            request_id = self._id_of(asked)
            if asked.get("type") == "cancel":
                self._cancel(request_id)
            elif asked.get("type") == "chat":
                await self._begin(request_id, asked)
            else:
                raise InvalidRequest("type: must be 'chat' or 'cancel'.", param="type")
        except GroupQwenError as error:
            await self._send({"type": "error", "id": request_id, **error.body()})

    async def close(self) -> None:
        """Cancel everything that runs."""
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _id_of(self, asked: dict[str, object]) -> str:
        found = asked.get("id")
        if not isinstance(found, str) or not 0 < len(found) <= 128:
            raise InvalidRequest("id: a string of 1 to 128 characters is required.", param="id")
        return found

    def _cancel(self, request_id: str) -> None:
        if request_id not in self.running:
            raise InvalidRequest(f"id: no request {request_id!r} is running on this socket.", param="id")
        self.running[request_id].cancel()

    async def _begin(self, request_id: str, asked: dict[str, Any]) -> None:
        if request_id in self.running:
            raise InvalidRequest(f"id: a request {request_id!r} is already running on this socket.", param="id")
        most = self.inference.behaviour.limits.websocket_requests
        if len(self.running) >= most:
            raise RateLimited(f"This socket already runs {most} requests, the most allowed.", retry_after=1.0)
        request = asked.get("request")
        if not isinstance(request, dict):
            raise InvalidRequest("request: the body of a chat completion is required.", param="request")
        try:
            body = orjson.dumps({**request, "stream": True, "stream_options": {"include_usage": True}})
        except orjson.JSONEncodeError:
            raise InvalidRequest("request: it is nested too deeply.", param="request") from None
        self.running[request_id] = asyncio.create_task(self._run(request_id, body))
        # A task that is cancelled before it has begun would never answer.
        await asyncio.sleep(0)

    async def _run(self, request_id: str, body: bytes) -> None:
        """Answer one request; its task is cancelled to cancel it."""
        # Each request has a state of its own; the socket's is only where they begin.
        scope = {**self.scope, "state": dict(self.scope["state"])}
        answer = _Frames(self, request_id)
        last: dict[str, Any] = {"type": "done"}
        try:
            scope["state"]["caller"] = await admit(scope)
            await self.inference.respond(CHAT, scope, body, answer.send, answer.tell)
            last = answer.failure or last
        except asyncio.CancelledError:
            last = {"type": "cancelled"}
        except Exception as raised:
            if not isinstance(raised, GroupQwenError):
                logger.exception("a request on a socket failed")
            last = {"type": "error", **as_error(raised).body()}
        finally:
            self.running.pop(request_id, None)
        await self._send({**last, "id": request_id})

    async def _send(self, data: dict[str, Any]) -> None:
        await self.send_text(orjson.dumps(data).decode())

    async def send_text(self, text: str) -> None:
        """Send one message, unless the client has left; whoever receives then ends the session."""
        if self.socket.client_state is self.socket.application_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect):
                await self.socket.send_text(text)


class _Frames:
    """Takes the ASGI messages of an HTTP answer and sends what is in them as messages of the socket.

    Attributes:
        failure: the last message, when the answer is an error.
    """

    def __init__(self, session: _Session, request_id: str) -> None:
        self._session = session
        self._id = request_id
        self._head = f'{{"type":"chunk","id":{orjson.dumps(request_id).decode()},"data":'
        self._reader = FrameReader()
        self._status = 0
        self.failure: dict[str, Any] | None = None

    async def send(self, message: Message) -> None:
        """Take one ASGI message."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif self._status != 200:
            self.failure = {"type": "error", **orjson.loads(message["body"])}
        else:
            for data in self._reader.feed(message["body"]):
                await self._chunk(data)

    async def tell(self, model: str) -> None:
        """Say that the request waits for a model."""
        await self._session.send_text(orjson.dumps({"type": "waiting", "id": self._id, "model": model}).decode())

    async def _chunk(self, data: bytes) -> None:
        if data == b"[DONE]":
            return
        if data.startswith(b'{"error"'):
            self.failure = {"type": "error", **orjson.loads(data)}
            return
        await self._session.send_text(f"{self._head}{data.decode()}}}")
