"""A real HTTP server that answers as OpenAI-compatible servers do on their good and bad days, and a handler of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from serve.handlers.upstream.handler import UpstreamHandler
from serve.protocol.events import Delta, Event, Usage
from serve.protocol.http import read_body, send_bytes
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.protocol.sampling import Sampling, SamplingDefaults, resolve
from serve.settings.model import ModelSettings
from tests.unit.gateway.group import listening

Json = dict[str, Any]
Answer = Callable[[Send], Awaitable[None]]

SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 3}}
#: Retries without a pause that a test would notice.
QUICK = {"count": 2, "backoff": 0.001, "longest": 2.0}


@dataclass
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: Json


@dataclass
class OtherServer:
    """Answers each request with the next of its answers; the last one is for all that follow.

    Attributes:
        asked: every request.
        left: how often a client was gone before the end of an answer.
    """

    answers: deque[Answer] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    left: int = 0

    def then(self, *answers: Answer) -> None:
        """Answer with these from now on."""
        self.answers = deque(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = orjson.loads(await read_body(scope, receive, 1 << 20))
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(Asked(scope["path"], headers, body))
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        try:
            await answer(send)
        except asyncio.CancelledError:
            self.left += 1
            raise


def chunk(text: str | None = None, *, index: int = 0, finish: str | None = None, **delta: Any) -> Json:
    """A chunk of a chat."""
    if text is not None:
        delta["content"] = text
    return {"id": "x", "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}


def data(*chunks: Json) -> bytes:
    """Chunks as events."""
    return b"".join(b"data: " + orjson.dumps(one) + b"\n\n" for one in chunks)


HELLO = data(
    chunk("", role="assistant"),
    chunk("Hel"),
    chunk("lo"),
    chunk(finish="stop"),
    {"id": "x", "choices": [], "usage": USAGE},
)


def stream(*parts: bytes | asyncio.Event, status: int = 200) -> Answer:
    """A stream of these bytes, each sent for itself; an event is waited for."""

    async def answer(send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": SSE})
        for part in parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return answer


def broken_off(*parts: bytes) -> Answer:
    """A stream that loses its connection after these bytes."""

    async def answer(send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        # A server that ends an answer without its end closes the connection.

    return answer


def whole(body: object, *, status: int = 200, kind: bytes = b"application/json", **headers: str) -> Answer:
    """One JSON object, or other bytes."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    more = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def answer(send: Send) -> None:
        await send_bytes(send, raw, content_type=kind, status=status, headers=more)

    return answer


def error(status: int, message: str = "It went wrong.", **headers: Any) -> Answer:
    """An error as OpenAI's API has it."""
    body = {"error": {"message": message, "type": "x", "param": "messages", "code": "some_code"}}
    return whole(body, status=status, **headers)


def settings(address: str, **engine: Any) -> ModelSettings:
    """A model on the server at ``address``, retried at once."""
    return ModelSettings.model_validate(
        {
            "id": "m",
            "handler": "upstream",
            "max_queued": 1,
            "engine": {"base_url": f"http://{address}/v1", "model": "theirs", "retries": QUICK, **engine},
        }
    )


@asynccontextmanager
async def loaded(wanted: ModelSettings) -> AsyncIterator[UpstreamHandler]:
    """A handler that is loaded."""
    handler = UpstreamHandler(wanted)
    await handler.load()
    try:
        yield handler
    finally:
        await handler.unload()


@asynccontextmanager
async def pair(*answers: Answer, **engine: Any) -> AsyncIterator[tuple[OtherServer, UpstreamHandler]]:
    """A server with these answers, and a handler of it."""
    server = OtherServer()
    server.then(*(answers or (stream(HELLO, DONE),)))
    async with listening(server) as address, loaded(settings(address, **engine)) as handler:
        yield server, handler


def chat(**fields: Any) -> ChatRequest:
    """A chat request."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return ChatRequest.model_validate(body)


def sampling(request: ChatRequest | CompletionRequest, **defaults: Any) -> Sampling:
    """The request's sampling over some defaults."""
    return resolve(request, SamplingDefaults(**defaults))


async def events(handler: UpstreamHandler, request: ChatRequest | None = None) -> list[Event]:
    """All events of a chat, in one list."""
    request = request or chat()
    return [event async for ready in handler.chat(request, sampling(request)) for event in ready]


def text_of(found: list[Event]) -> str:
    """The text of the first choice."""
    return "".join(event.text for event in found if isinstance(event, Delta) and event.index == 0)


HELLO_EVENTS: list[Event] = [Delta(text="Hel"), Delta(text="lo"), Delta(finish_reason="stop"), Usage(7, 2, 3)]
