"""The ASGI app of one model replica. It answers the gateway only: every request must show the internal token."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import Forbidden, InvalidRequest
from serve.logs import request_id
from serve.protocol.chat import ChatCollector, ChatEncoder
from serve.protocol.completions import CompletionEncoder
from serve.protocol.embeddings import embeddings_body
from serve.protocol.events import Usage
from serve.protocol.http import Errors, Routes, header, read_body, send_json
from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest, with_system_prompt
from serve.protocol.sampling import resolve
from serve.protocol.validation import parse_json, parse_request
from serve.replica.adapters import Adapters
from serve.replica.answers import Count, send_stream, send_whole
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

R = TypeVar("R", ChatRequest, CompletionRequest)

Endpoint = Callable[[bytes, Send], Awaitable[None]]


class ReplicaApp:
    """OpenAI's API over one handler.

    Attributes:
        behaviour: sampling defaults and the like; replaced when the deployment is reconfigured, read by each request.
    """

    def __init__(
        self,
        resident: Resident,
        token: str,
        behaviour: ModelUserConfig,
        metrics: ReplicaMetrics,
        adapters: Adapters,
    ) -> None:
        self._resident = resident
        self._handler = resident.handler
        self._adapters = adapters
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
        self.asgi: ASGIApp = Signed(Errors(Guarded(Residence(router, resident), token)), self._id)

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
            "adapters": self._adapters.info(),
        }

    async def _info(self, body: bytes, send: Send) -> None:
        await send_json(send, self.info())

    async def _load(self, body: bytes, send: Send) -> None:
        await load(self._resident)
        await self._info(body, send)

    async def _chat(self, body: bytes, send: Send) -> None:
        asked = with_system_prompt(parse_request(ChatRequest, parse_json(body)), self.behaviour.system_prompt)
        sampling = resolve(asked, self.behaviour.sampling)
        async with self._running("chat", asked, send) as run:
            events = self._handler.chat(run.request, sampling)
            if asked.stream:
                wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
                encoder = ChatEncoder(run.model, asked.n, wants_usage)
                await send_stream(run.send, events, encoder, run.count)
            else:
                await send_whole(run.send, events, ChatCollector(run.model), run.count)

    async def _complete(self, body: bytes, send: Send) -> None:
        asked = parse_request(CompletionRequest, parse_json(body))
        sampling = resolve(asked, self.behaviour.sampling)
        wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
        async with self._running("completion", asked, send) as run:
            events = self._handler.complete(run.request, sampling)
            encoder = CompletionEncoder(run.model, wants_usage)
            if asked.stream:
                await send_stream(run.send, events, encoder, run.count)
            else:
                await send_whole(run.send, events, encoder, run.count)

    @asynccontextmanager
    async def _running(self, kind: str, asked: R, send: Send) -> AsyncIterator[_Run[R]]:
        """A request on its adapter, if it names one: counted, and the adapter held to its end."""
        name = asked.adapter
        async with self._adapters.using(name) as key:
            if name is None:
                run = _Run(asked, self._id, send, self._metrics.count)
            else:
                model = f"{self._id}:{name}"
                told = asked.model_copy(update={"model": f"{self._id}:{key}"})
                run = _Run(told, model, signed(send, model), partial(self._metrics.count, adapter=name))
            with self._metrics.request(kind, name or ""):
                yield run

    async def _embed(self, body: bytes, send: Send) -> None:
        request = parse_request(EmbeddingRequest, parse_json(body))
        if ":" in request.model:
            raise InvalidRequest("An adapter changes what a model writes; it has no embeddings.", param="model")
        with self._metrics.request("embedding"):
            result = await self._handler.embed(request)
            self._metrics.count(Usage(result.prompt_tokens, 0))
            await send_json(send, embeddings_body(request, self._id, result))


@dataclass(frozen=True, slots=True)
class _Run(Generic[R]):
    """How a request runs.

    Attributes:
        request: as the handler gets it: its adapter is called by the handler's name for the content.
        model: as the answer names it.
        send: signs the answer with that name.
        count: told the tokens at the end.
    """

    request: R
    model: str
    send: Send
    count: Count


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


def is_internal(scope: Scope, token: str) -> bool:
    """Whether a request shows the internal token; compared in constant time."""
    return hmac.compare_digest(header(scope, TOKEN_HEADER) or b"", token.encode())


class Guarded:
    """Refuses every request that does not show the internal token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise."""
        if scope["type"] == "http" and not is_internal(scope, self._token):
            raise Forbidden("A model is asked through the gateway, at /v1, not directly.")
        await self._app(scope, receive, send)


class Signed:
    """Adds the model's id to every answer's headers, and the request's id to every log line."""

    def __init__(self, app: ASGIApp, model: str) -> None:
        self._app = app
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if (brought := header(scope, b"x-request-id") if scope["type"] == "http" else None) is not None:
            request_id.set(brought.decode("latin-1"))

        await self._app(scope, receive, signed(send, self._model))


def signed(send: Send, model: str) -> Send:
    """``send`` with the model's name in the answer's headers, unless one is there already."""

    # Gives what ``send`` gives, so that the many messages of a stream are awaited once and not once more here.
    def with_name(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            if not any(name == MODEL_HEADER for name, _ in headers):
                message = {**message, "headers": [*headers, (MODEL_HEADER, model.encode())]}
        return send(message)

    return with_name
