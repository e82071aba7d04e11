"""The ASGI app of one model replica. It answers the gateway only: every request must show the internal token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import Forbidden
from serve.logs import request_id
from serve.protocol.chat import ChatCollector, ChatEncoder
from serve.protocol.completions import CompletionEncoder
from serve.protocol.embeddings import embeddings_body
from serve.protocol.events import Usage
from serve.protocol.http import Errors, Routes, header, read_body, send_json
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest, with_system_prompt
from serve.protocol.sampling import resolve
from serve.protocol.validation import parse_json, parse_request
from serve.replica.answers import send_stream, send_whole
from serve.replica.metrics import ReplicaMetrics
from serve.replica.residence import LOAD_PATH, Residence, load
from serve.residency.resident import Resident
from serve.settings.model import ModelUserConfig

#: Carries the internal token from the gateway to a model replica.
TOKEN_HEADER = b"x-groupqwen-internal"
#: Set on every answer of a model replica, so that the gateway can tell it from an answer of Serve's proxy.
MODEL_HEADER = b"x-groupqwen-model"

#: The gateway has its own, configurable limit; this one only bounds what a replica will ever hold.
MAX_BODY_BYTES = 256 * 1024 * 1024

Endpoint = Callable[[bytes, Send], Awaitable[None]]


class ReplicaApp:
    """OpenAI's API over one handler.

    Attributes:
        behaviour: sampling defaults and the like; replaced when the deployment is reconfigured, read by each request.
    """

    def __init__(self, resident: Resident, token: str, behaviour: ModelUserConfig, metrics: ReplicaMetrics) -> None:
        self._resident = resident
        self._handler = resident.handler
        self._id = self._handler.settings.id
        self._metrics = metrics
        self.behaviour = behaviour
        router = Routes(
            [
                Route("/v1/chat/completions", _Posted(self._chat), methods=["POST"]),
                Route("/v1/completions", _Posted(self._complete), methods=["POST"]),
                Route("/v1/embeddings", _Posted(self._embed), methods=["POST"]),
                Route("/info", _Got(self._info), methods=["GET"]),
                Route(LOAD_PATH, _Got(self._load), methods=["POST"]),
            ]
        )
        self.asgi: ASGIApp = _Signed(Errors(_Guarded(Residence(router, resident), token)), self._id)

    def info(self) -> dict[str, Any]:
        """What this replica is and can do, as plain data."""
        settings = self._handler.settings
        return {
            "id": settings.id,
            "created": settings.created,
            "owned_by": settings.owned_by,
            "handler": settings.handler,
            "capabilities": asdict(self._resident.capabilities),
            "load": asdict(self._handler.load_now()),
            "memory_estimate_bytes": self._resident.need.total,
        }

    async def _info(self, body: bytes, send: Send) -> None:
        await send_json(send, self.info())

    async def _load(self, body: bytes, send: Send) -> None:
        await load(self._resident)
        await self._info(body, send)

    async def _chat(self, body: bytes, send: Send) -> None:
        request = with_system_prompt(parse_request(ChatRequest, parse_json(body)), self.behaviour.system_prompt)
        events = self._handler.chat(request, resolve(request, self.behaviour.sampling))
        with self._metrics.request("chat"):
            if request.stream:
                wants_usage = request.stream_options is not None and request.stream_options.include_usage
                encoder = ChatEncoder(self._id, request.n, wants_usage)
                await send_stream(send, events, encoder, self._metrics.count)
            else:
                await send_whole(send, events, ChatCollector(self._id), self._metrics.count)

    async def _complete(self, body: bytes, send: Send) -> None:
        request = parse_request(CompletionRequest, parse_json(body))
        events = self._handler.complete(request, resolve(request, self.behaviour.sampling))
        wants_usage = request.stream_options is not None and request.stream_options.include_usage
        encoder = CompletionEncoder(self._id, wants_usage)
        with self._metrics.request("completion"):
            if request.stream:
                await send_stream(send, events, encoder, self._metrics.count)
            else:
                await send_whole(send, events, encoder, self._metrics.count)

    async def _embed(self, body: bytes, send: Send) -> None:
        request = parse_request(EmbeddingRequest, parse_json(body))
        with self._metrics.request("embedding"):
            result = await self._handler.embed(request)
            self._metrics.count(Usage(result.prompt_tokens, 0))
            await send_json(send, embeddings_body(request, self._id, result))


class _Posted:
    """An endpoint that gets the request's body."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(await read_body(scope, receive, MAX_BODY_BYTES), send)


class _Got(_Posted):
    """An endpoint that needs no body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(b"", send)


class _Guarded:
    """Refuses every request that does not show the internal token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not hmac.compare_digest(header(scope, TOKEN_HEADER) or b"", self._token):
            raise Forbidden("A model is asked through the gateway, at /v1, not directly.")
        await self._app(scope, receive, send)


class _Signed:
    """Adds the model's id to every answer's headers, and the request's id to every log line."""

    def __init__(self, app: ASGIApp, model: str) -> None:
        self._app = app
        self._header = (MODEL_HEADER, model.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (brought := header(scope, b"x-request-id") if scope["type"] == "http" else None) is not None:
            request_id.set(brought.decode("latin-1"))

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], self._header]}
            await send(message)

        await self._app(scope, receive, signed)
